"""Areas of the 137 diseases of Hetionet, to hold out whole: by the organ or process they hit.

The files have no hierarchy. Cancers are known by their names; the others are put by hand into one
area each, near the top levels of the Disease Ontology (asthma, colitis and psoriasis are with the
immune system, whose drugs they share).
"""

CANCER = ("cancer", "neoplasm", "sarcoma", "melanoma", "glioma", "mesothelioma", "meningioma")

AREAS = {
    "cardiovascular": "1936 3393 7693 10763 10941 12930 13378 14004",
    "metabolic": "585 1459 5408 9352 9744 9970 11476 11612 11714 12361 13189 14221 14227",
    "immune": (
        "418 986 2841 3310 4481 7147 7148 8577 8778 8893 9008 9074 10608 12236 12306 13241 14268"
    ),
    "infection": "635 1024 2043 12365",
    "nervous system": (
        "332 594 1094 1595 1826 2377 3312 5419 6364 8986 10652 11119 11949 12849 12995 14330 "
        "0050425 0050741 0050742"
    ),
}
OTHER = "other"


def disease_area(identifier: str, name: str) -> str:
    """The area of a disease.

    Args:
        identifier: of the Disease Ontology, such as "DOID:10763".
        name: such as "hypertension".

    Returns:
        "cancer", a key of `AREAS`, or "other" (lung, gut, kidney, eye, bones, teeth).
    """
    if any(word in name.lower() for word in CANCER):
        return "cancer"
    number = identifier.rpartition(":")[2]
    return next((area for area, held in AREAS.items() if number in held.split()), OTHER)
