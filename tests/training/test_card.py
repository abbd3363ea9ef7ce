"""The card tells given figures exactly, in Markdown that the hub of models reads."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from longvid.training.card import Data, Facts, card, write_card

DATA = Data(
    clips=3,
    left_out=1,
    sequences=1024,
    held_out=24,
    seconds=Fraction(7384, 10),
    size=(96, 64),
    fps=Fraction(30000, 1001),
)
FACTS = Facts(
    name="sea",
    backend="diorama",
    base="diorama",
    licence="Apache-2.0, as longvid itself",
    part="denoiser",
    data=DATA,
    trained=4_076_544,
    parameters=4_076_544,
    steps=1500,
    batch=8,
    learning_rate=1e-4,
    seed=7,
    seconds=3725.4,
    device="NVIDIA X",
    processes=2,
    longvid="0.1.0",
    skipped_steps=2,
    held_out=(0.43119, 0.12891),
)
WHOLE = """\
---
license: apache-2.0
base_model_relation: finetune
library_name: longvid
pipeline_tag: text-to-video
---

# sea

This is the denoiser of diorama, trained on 3 clips of somebody's own to denoise windows whose noise \
levels rise from front to back: Progressive Autoregressive Video Diffusion Models (arXiv 2410.08151), \
section 3.5.

```console
longvid render film.yaml --model ./sea
```

## Data

|  |  |
| --- | --- |
| clips | 3, 1 more could not be used |
| sequences trained on | 1,000 |
| sequences held out | 24 |
| footage | 12:18.4 |
| taken at | 96x64, 29.97 frames a second |

## Training

|  |  |
| --- | --- |
| numbers trained | 4,076,544 of 4,076,544 |
| steps | 1,500 (2 of them skipped: a loss that is no number) |
| sequences a step | 8 |
| learning rate, at its highest | 0.0001 |
| seed | 7 |
| time | 1:02:05 on NVIDIA X, 2 processes |
| made by | longvid 0.1.0 |

## Result

|  | before | after |
| --- | --- | --- |
| loss on what was held out | 0.4312 | 0.1289 |

![loss by step](loss.png)

## Licence

Of diorama: Apache-2.0, as longvid itself. Whoever passes this on should say here what the clips' \
owners allow.
"""


def test_clips_of_a_dataset_are_its_own() -> None:
    text = card(replace(FACTS, data=replace(DATA, dataset="diorama")))
    assert "trained on 3 clips of the dataset diorama to denoise" in text


def test_the_whole_card(tmp_path: Path) -> None:
    assert card(FACTS) == WHOLE
    write_card(tmp_path, FACTS)
    assert (tmp_path / "README.md").read_text("utf-8") == WHOLE


def matter(facts: Facts) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card(facts).split("---\n")[1])
    return found


def test_a_lora_of_a_model_on_the_hub() -> None:
    facts = replace(FACTS, backend="opensora-v1.2", base="opensora-v1.2", repository="hpcai/x", lora_rank=16)
    assert matter(facts) == {
        "license": "apache-2.0",
        "base_model": "hpcai/x",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-to-video",
    }
    assert "This is a LoRA of rank 16 for opensora-v1.2, trained on" in card(facts)
    assert "longvid render film.yaml --lora ./sea" in card(facts)


def test_a_codec() -> None:
    text = card(replace(FACTS, part="codec", psnr=(24.104, 27.5), held_out=None))
    assert "This is the codec of diorama, trained on 3 clips of somebody's own to encode and decode" in text
    assert "| PSNR of the codec there | 24.10 dB | 27.50 dB |\n" in text
    assert "loss on what was held out" not in text


def test_what_there_is_none_of() -> None:
    alone = replace(DATA, clips=1, left_out=0)
    text = card(replace(FACTS, data=alone, skipped_steps=0, processes=1, held_out=None))
    assert "trained on 1 clip of somebody's own" in text
    assert "| clips | 1 |\n" in text
    assert "| steps | 1,500 |\n" in text
    assert "| time | 1:02:05 on NVIDIA X |\n" in text
    assert "Nothing was held out to judge by.\n" in text


@pytest.mark.parametrize(
    ("licence", "tag"), [("Apache-2.0; T5: none stated", "apache-2.0"), ("none: random", "other")]
)
def test_the_licence(licence: str, tag: str) -> None:
    facts = replace(FACTS, licence=licence)
    assert matter(facts)["license"] == tag
    assert f"Of diorama: {licence}." in card(facts)


def test_a_name_brings_no_markup_along() -> None:
    text = card(replace(FACTS, base="a|b\n# <i>*`c"))
    assert r"the denoiser of a\|b # \<i\>\*\`c, trained" in text
    assert "\n# <" not in text
