"""The words for what diorama's world can show: those of training captions, and others kept from training.

A phrase names one value. It may hold words of other values' phrases ("a still camera", "standing still";
"in a green valley", "green"), so that it is the phrase that tells and not the word.
"""

from __future__ import annotations

Phrases = dict[str, dict[str, tuple[str, ...]]]
"""Attribute -> value -> what it is called."""


def _turned(phrases: tuple[str, ...], there: str, back: str) -> tuple[str, ...]:
    """Phrases of a way, for one of the two."""
    return tuple(phrase.format(there=there, back=back) for phrase in phrases)


_MOVING = (
    "drifting {there}", "moving {there}", "flying to the {there}", "heading {there}", "gliding {there}wards",
    "floats to the {there}", "drifts {there}", "moves to the {there}", "sliding {there}", "going {there}",
    "travelling {there}", "floating {there}wards", "glides {there}", "heading to the {there}",
    "moves {there}", "sails {there}", "drifting from {back} to {there}", "crossing from {back} to {there}",
    "passing to the {there}", "drifting to the {there}", "moving to the {there}", "glides to the {there}",
)  # fmt: skip
_MOVING_HELD_OUT = (
    "gliding to the {there}", "floats {there}wards", "moving {there}wards", "flying {there}",
    "drifts to the {there}", "heading {there}wards", "moves from {back} to {there}", "floating {there}",
)  # fmt: skip
_PANNING = (
    "camera pans {there}", "pan {there}", "panning {there}", "camera moves {there}", "camera tracks {there}",
    "slow pan to the {there}", "tracking shot to the {there}", "camera sweeps {there}", "{there}ward pan",
    "camera pans to the {there}", "camera drifting {there}", "view pans {there}",
    "camera glides to the {there}", "camera moving to the {there}", "panning shot to the {there}",
)  # fmt: skip
_PANNING_HELD_OUT = (
    "camera sweeps to the {there}", "slow pan {there}", "panning to the {there}", "tracking shot {there}",
    "camera moving {there}", "camera drifting to the {there}", "view pans to the {there}",
)  # fmt: skip

VALUES: Phrases = {
    "scene": {
        "sea": (
            "over the sea", "on the ocean", "over blue waves", "on a calm sea", "by the sea", "at sea",
            "over open water", "on the water", "above the waves", "along the coast", "across the ocean",
            "over the open sea", "above the ocean", "by the ocean", "along the shore", "across the water",
            "near the coast", "over the bay", "over the deep blue sea", "by the seaside", "on the high seas",
            "among the waves",
        ),
        "hills": (
            "over green hills", "in the hills", "over a meadow", "above rolling hills", "in a green valley",
            "over the countryside", "above the fields", "over grassland", "across a meadow", "over the hills",
            "over green pastures", "above grassy hills", "through the valley", "in the countryside",
            "across green fields", "over the meadows", "over farmland", "among rolling hills",
            "above a grassy valley", "on a hillside",
        ),
        "desert": (
            "over the desert", "above sand dunes", "in the desert", "over golden dunes", "across the sand",
            "in a sandy desert", "among dunes", "over the dunes", "across the desert", "above the sands",
            "over endless sand", "through the dunes", "over desert sands", "in the sahara",
            "above golden sand", "over dry sands", "over arid land", "in a dry desert", "over sandy dunes",
        ),
        "city": (
            "over a city", "above the city skyline", "in town", "over the rooftops", "above the buildings",
            "over downtown", "above tall towers", "in the city", "through the streets",
            "over an urban skyline", "over the town", "among skyscrapers", "between tall buildings",
            "over city streets", "above the skyscrapers", "across the city", "over the metropolis",
            "among the towers", "above the roofs", "over a modern city",
        ),
        "mountains": (
            "in the mountains", "over snowy peaks", "above the mountains", "among high peaks", "in the alps",
            "over the mountains", "over a mountain range", "above rocky peaks", "over the alps",
            "above the summits", "among the summits", "between the peaks", "in the high mountains",
            "across the mountains", "over steep ridges", "along the ridge", "above alpine peaks",
            "over jagged peaks", "by the mountainside", "over the mountain tops",
        ),
        "forest": (
            "over a forest", "in the woods", "above the trees", "over the treetops", "among the trees",
            "in the forest", "through the forest", "over the woods", "above the woodland", "in a pine forest",
            "among tall pines", "over the pines", "through the trees", "across the woodland",
            "over a leafy canopy", "above the forest canopy", "in deep woods", "over dense forest",
            "between the trees", "above the firs",
        ),
    },
    "time": {
        "day": (
            "during the day", "in daylight", "at noon", "by day", "at midday", "in bright sunshine",
            "on a sunny afternoon", "under the midday sun", "in the afternoon", "in broad daylight",
            "in the daytime", "in full sunlight", "on a sunny day", "under the bright sun",
            "in the middle of the day", "at high noon", "in the sunshine", "around noon",
            "in the early afternoon", "in the sunlight",
        ),
        "sunset": (
            "at sunset", "at dusk", "in the evening", "in the evening light", "as the sun sets",
            "at twilight", "during sunset", "at sundown", "as the sun goes down", "in the setting sun",
            "as evening falls", "in the glow of sunset", "at nightfall", "in the late evening",
            "under the setting sun", "as dusk falls", "by evening", "at the end of the day",
            "under the evening sky",
        ),
        "night": (
            "at night", "at midnight", "in moonlight", "under the moon", "on a dark night", "by night",
            "under a starry sky", "in the darkness", "by moonlight", "in the middle of the night",
            "after dark", "during the night", "under the night sky", "on a starry night", "late at night",
            "in the dark of night", "under a full moon", "on a moonlit night", "under the dark sky",
        ),
        "dawn": (
            "at dawn", "at sunrise", "in the early morning", "at first light", "as the sun rises",
            "at daybreak", "in the morning", "in the morning light", "as the sun comes up",
            "at the break of day", "during sunrise", "in the rising sun", "under the rising sun",
            "just after sunrise", "early in the morning", "at the crack of dawn", "in the glow of dawn",
            "in the first light of day", "under the morning sky",
        ),
        "passing": (
            "as day turns to night", "in a time lapse", "time lapse", "as the hours go by", "in timelapse",
            "as time goes by", "from day to night", "as the day goes by", "as day and night pass by",
            "through day and night", "timelapse", "while the hours fly by", "over a whole day",
            "time lapse of a day", "as day becomes night", "from morning to night", "as night follows day",
            "while time flies by", "hour after hour", "from dawn to dusk",
        ),
    },
    "weather": {
        "clear": (
            "in clear weather", "under a clear sky", "in fine weather", "with clear skies",
            "under clear skies", "with a clear sky", "in good weather", "in fair weather", "on a clear day",
            "on a fine day", "in nice weather", "in dry weather", "with clear air", "in lovely weather",
            "in pleasant weather", "with fair skies",
        ),
        "rain": (
            "in the rain", "while it rains", "in a storm", "in heavy rain", "on a rainy day", "in a downpour",
            "as rain falls", "in stormy weather", "in pouring rain", "during a storm", "in rainy weather",
            "in a rainstorm", "while rain falls", "through the rain", "as it rains", "in a heavy shower",
            "in wet weather", "under rainy skies", "with rain pouring down", "in rain",
        ),
        "snow": (
            "in the snow", "while it snows", "in snowfall", "as snow falls", "in a blizzard",
            "in snowy weather", "in falling snow", "in heavy snow", "in a snowstorm", "as it snows",
            "on a snowy day", "during snowfall", "through the snow", "while snow falls", "in swirling snow",
            "under falling snowflakes", "with snow falling", "in a flurry of snow", "in snow",
        ),
        "fog": (
            "in the fog", "in thick fog", "in the mist", "on a foggy day", "in a haze", "in fog",
            "through the mist", "in dense fog", "in misty weather", "in foggy weather", "through the fog",
            "as fog rolls in", "under a veil of mist", "on a misty day", "in hazy air", "in a thick haze",
            "wrapped in fog", "shrouded in mist", "in heavy fog",
        ),
    },
    "count": {
        "one": (
            "one", "a single", "a lone", "just one", "only one", "a solitary", "one single", "a lonely",
        ),
        "two": (
            "two", "a pair of", "twin", "a couple of", "both", "two identical", "two matching",
            "a matching pair of", "a set of two", "the two",
        ),
    },
    "shape": {
        "balloon": (
            "balloon", "hot air balloon", "air balloon", "round balloon", "gas balloon", "party balloon",
        ),
        "boat": (
            "boat", "sailboat", "ship", "sailing boat", "yacht", "sailing ship", "small boat", "wooden boat",
            "vessel", "sailing yacht", "schooner", "sloop",
        ),
        "star": (
            "star", "five-pointed star", "shining star", "glowing star", "little star", "pointed star",
            "twinkling star",
        ),
        "kite": (
            "kite", "diamond", "paper kite", "diamond kite", "toy kite", "silk kite", "diamond-shaped kite",
            "fluttering kite",
        ),
        "bird": (
            "bird", "gull", "seagull", "dove", "swallow", "sparrow", "pigeon", "songbird", "winged bird",
            "wild bird", "crow", "eagle",
        ),
        "saucer": (
            "saucer", "flying saucer", "ufo", "spaceship", "alien spaceship", "alien saucer", "flying disc",
            "starship", "space saucer", "mothership",
        ),
    },
    "color": {
        "red": (
            "red", "crimson", "scarlet", "ruby", "ruby red", "cherry red", "fiery red", "deep red",
            "vermilion", "dark red",
        ),
        "yellow": (
            "yellow", "lemon", "gold", "golden", "amber", "lemon yellow", "golden yellow", "canary yellow",
            "saffron", "honey",
        ),
        "green": (
            "green", "emerald", "emerald green", "lime", "lime green", "jade", "moss green", "deep green",
            "dark green",
        ),
        "blue": (
            "blue", "azure", "cobalt", "sapphire", "navy blue", "sky blue", "royal blue", "deep blue",
            "cerulean", "ultramarine", "dark blue", "light blue",
        ),
        "purple": (
            "purple", "violet", "lilac", "lavender", "plum", "amethyst", "deep purple", "royal purple",
            "mauve", "dark purple",
        ),
        "white": (
            "white", "pale", "ivory", "pearl", "pearl white", "milky white", "chalk white", "pure white",
            "cream", "pearly",
        ),
    },
    "motion": {
        "left": _turned(_MOVING, "left", "right"),
        "right": _turned(_MOVING, "right", "left"),
        "bouncing": (
            "bouncing", "bouncing up and down", "moving up and down", "bobbing", "bobs up and down",
            "bounces", "hopping", "hops up and down", "bouncing in place", "bobbing up and down",
            "rising and falling", "springing up and down", "jumping up and down", "jumping",
            "going up and down", "moves up and down",
        ),
        "still": (
            "standing still", "at rest", "not moving", "hanging still", "motionless", "hovering",
            "staying still", "resting", "hovering in place", "stands still", "hangs motionless",
            "floating in place", "without moving", "staying in place", "hovers", "keeping still",
            "stays still",
        ),
    },
    "camera": {
        "static": (
            "static camera", "fixed camera", "locked shot", "still camera", "static shot", "fixed shot",
            "locked camera", "steady camera", "tripod shot", "camera on a tripod", "stationary camera",
            "camera stays still", "camera at rest",
        ),
        "right": (
            "camera pans", "panning camera", "slow pan", "panning shot", "tracking shot", "pan", "panning",
            *_turned(_PANNING, "right", "left"),
        ),
        "left": _turned(_PANNING, "left", "right"),
    },
}  # fmt: skip
"""What captions call each value. A camera that pans, and no more said, pans to the right."""

ALONE: Phrases = {"motion": {"left": ("left", "to the left"), "right": ("right", "to the right")}}
"""What a prompt may say with a verb of its own: a way that is not the camera's is the object's."""

HELD_OUT: Phrases = {
    "scene": {
        "sea": (
            "across the calm ocean", "above the open water", "among blue ocean waves",
            "along the ocean shore", "across the calm open sea", "above blue water",
        ),
        "hills": (
            "across rolling pastures", "above the green countryside", "through grassy meadows",
            "in a rolling valley", "above green grassland", "across the farmland",
        ),
        "desert": (
            "above the arid desert", "across endless dunes", "over the dry sand", "among dry sandy dunes",
            "through golden sands",
        ),
        "city": (
            "above the urban streets", "among tall skyscrapers", "over tall downtown towers",
            "across the city rooftops", "between the city buildings", "over the modern skyline",
        ),
        "mountains": (
            "above the rocky mountains", "among jagged summits", "across the alpine range",
            "over high ridges", "between steep mountains", "over the snowy alps",
        ),
        "forest": (
            "above the tall trees", "through pine woods", "over dense woodland", "among the leafy trees",
            "across the pine forest", "between tall firs",
        ),
    },
    "time": {
        "day": (
            "in bright sunlight", "on a bright afternoon", "under the noon sun", "in the sunny daytime",
            "in full daylight", "in the midday sunshine",
        ),
        "sunset": (
            "under the evening sun", "at the end of the evening", "in the glow of dusk",
            "in the evening twilight", "as the evening sun goes down", "in late evening light",
        ),
        "night": (
            "under the full moon", "in the dark night", "under a moonlit sky", "by night in the moonlight",
            "in the middle of a starry night", "under the midnight sky",
        ),
        "dawn": (
            "as the morning sun rises", "in the light of dawn", "just after dawn",
            "in the early morning light", "in the glow of sunrise", "at first morning light",
        ),
        "passing": (
            "as the day turns to night", "while the whole day goes by", "while hour follows hour",
            "from day to dusk to night", "in a time lapse of day and night", "as night becomes day",
        ),
    },
    "weather": {
        "clear": (
            "under fine skies", "with fine clear weather", "on a fair day", "under a fair sky",
            "in nice clear air",
        ),
        "rain": (
            "during heavy pouring rain", "in a heavy rainstorm", "through a heavy downpour",
            "as the rain falls", "with heavy rain pouring", "in a stormy shower",
        ),
        "snow": (
            "in heavy snowfall", "during a heavy snowstorm", "through swirling heavy snow",
            "while the snow falls", "in swirling snowflakes", "during a heavy blizzard",
        ),
        "fog": (
            "through thick mist", "in a foggy haze", "in dense mist", "wrapped in mist",
            "under a veil of fog", "as thick fog rolls in",
        ),
    },
    "count": {
        "one": ("one lone", "just a single", "only one single", "one solitary"),
        "two": ("a couple of matching", "a pair of identical", "two twin", "a set of twin"),
    },
    "shape": {
        "balloon": ("round hot air balloon", "round gas balloon", "round party balloon"),
        "boat": ("wooden ship", "small sailboat", "sailing vessel", "wooden sailing boat", "small yacht"),
        "star": ("shining five-pointed star", "glowing little star", "little twinkling star"),
        "kite": ("paper diamond", "silk diamond kite", "fluttering paper kite", "toy diamond"),
        "bird": ("wild dove", "wild gull", "winged songbird", "wild swallow"),
        "saucer": ("alien disc", "flying spaceship", "alien ufo", "alien starship"),
    },
    "color": {
        "red": ("crimson red", "scarlet red", "deep scarlet", "fiery crimson"),
        "yellow": ("amber yellow", "saffron yellow", "honey yellow", "golden amber"),
        "green": ("jade green", "deep emerald", "dark jade"),
        "blue": ("cobalt blue", "sapphire blue", "azure blue", "deep azure"),
        "purple": ("violet purple", "deep violet", "plum purple", "dark plum"),
        "white": ("ivory white", "pale ivory", "pearly white", "pale cream"),
    },
    "motion": {
        "left": _turned(_MOVING_HELD_OUT, "left", "right"),
        "right": _turned(_MOVING_HELD_OUT, "right", "left"),
        "bouncing": (
            "hopping up and down", "bounces up and down", "jumping in place", "bobbing in place",
            "rising up and falling down",
        ),
        "still": (
            "standing motionless", "floating motionless", "resting in place", "hanging motionless",
            "keeping motionless",
        ),
    },
    "camera": {
        "static": (
            "stationary shot", "steady shot", "locked camera on a tripod", "fixed tripod camera",
            "camera stays static",
        ),
        "right": _turned(_PANNING_HELD_OUT, "right", "left"),
        "left": _turned(_PANNING_HELD_OUT, "left", "right"),
    },
}  # fmt: skip
"""Ways to call each value that no training caption uses, of words that its phrases above hold: how far what
is learnt holds for phrasings that are new."""
