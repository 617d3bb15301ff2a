"""Simple questions and tasks for the teacher, and answers that show it what is wanted."""

from __future__ import annotations

import random
import re

from words import ADJECTIVES, ANIMALS, PEOPLE, PLACES, THINGS, article

SYSTEM = "You are a helpful assistant. Answer in one or two short sentences, with simple words."

EXAMPLES: list[tuple[str, str]] = [
    (
        "What does a baker do?",
        "A baker makes bread and cakes. He gets up very early, so that the bread is warm in the morning.",
    ),
    ("Why do birds build nests?", "Birds build nests to keep their eggs safe and warm. The young birds grow up there."),
    (
        "Tell me something about snails.",
        "Snails carry their houses on their backs. They are very slow and like wet leaves.",
    ),
    (
        "How do I make a friend?",
        "Say hello and ask a friendly question. Then listen, and share something that you like.",
    ),
    ("What can I do on a rainy day?", "You can read a book, draw a picture, or build a tent with blankets and chairs."),
    ("Write a sentence with the word lantern.", "The old man held up his lantern and walked down the dark path."),
    ("What is a bucket for?", "A bucket is for carrying water or sand. You hold it by the handle."),
    (
        "Describe a quiet forest.",
        "The trees stand close together, and the ground is soft. You can hear only a bird and the wind.",
    ),
]

KIN = "dog cat rabbit hamster parrot fish pony turtle duck goat".split()
FOODS = "bread|honey|soup|apples|carrots|cake|cheese|rice|milk|jam|nuts|eggs|pancakes|berries|salad|noodles".split("|")
WEATHER = "rain|snow|wind|fog|thunder|a rainbow|the sun|the moon|clouds|stars|ice|frost".split("|")
BODY = "eyes|ears|hands|feet|nose|teeth|heart|hair|tongue|knees".split("|")
DOING = (
    "make a paper boat|plant a flower|bake a cake|draw a cat|clean my room|write a letter|say sorry|learn to swim|fall asleep|"
    "wash an apple|set the table|ride a bicycle|fly a kite|build a sand castle|take care of a plant|feed a bird|tie my shoes|"
    "make soup|find a lost toy|tell a joke|cross the road|wrap a gift|sing a song|count to ten|make a sandwich|be brave"
).split("|")
FEELINGS = "happy sad afraid angry lonely tired proud bored excited shy".split()
SEASONS = "spring summer autumn winter".split()
OCCASIONS = (
    "a birthday|a picnic|a rainy day|a long trip|a visit to grandmother|bedtime|the first day of school|a walk".split(
        "|"
    )
)

# A slot in braces is filled from the list of its name.
FORMS = [
    "What does {a_person} do?",
    "What do {animals} eat?",
    "Where do {animals} live?",
    "Why do {animals} sleep?",
    "Tell me something about {animals}.",
    "Tell me one thing about {weather}.",
    "What is {weather}?",
    "Why do we have {body}?",
    "What is {a_thing} for?",
    "What can I do with {a_thing}?",
    "How do I {doing}?",
    "Can you help me to {doing}?",
    "I want to {doing}. What do I need?",
    "I feel {feeling}. What can I do?",
    "My friend is {feeling}. What should I say?",
    "What makes people {feeling}?",
    "What is {season} like?",
    "What can I do in {season}?",
    "What do I need for {occasion}?",
    "Write a sentence with the word {thing}.",
    "Write a sentence about {a_adjective_animal}.",
    "Write two sentences about {a_person} {place}.",
    "Describe {a_thing}.",
    "Describe {a_adjective_animal}.",
    "Describe a day {place}.",
    "What does {a_animal} look like?",
    "Is {a_animal} a good pet?",
    "How do I take care of {a_pet}?",
    "What can I make with {food}?",
    "Why is {food} good for me?",
    "What is the difference between {a_animal} and {a_other}?",
    "What could {a_adjective_person} find {place}?",
]


def plural(noun: str) -> str:
    special = {"mouse": "mice", "wolf": "wolves", "fish": "fish", "sheep": "sheep", "deer": "deer", "goose": "geese"}
    if noun in special:
        return special[noun]
    if re.search(r"(s|x|ch|sh)$", noun):
        return noun + "es"
    return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s"


def question(seed: int) -> str:
    """The same seed gives the same question."""
    rng = random.Random(seed)
    pick = rng.choice
    animal, other = rng.sample(ANIMALS, 2)
    person, thing = pick(PEOPLE), pick(THINGS)
    slots = {
        "animals": plural(animal),
        "a_animal": article(animal),
        "a_other": article(other),
        "a_adjective_animal": article(f"{pick(ADJECTIVES)} {animal}"),
        "a_person": article(person),
        "a_adjective_person": article(f"{pick(ADJECTIVES)} {person}"),
        "a_pet": article(pick(KIN)),
        "thing": thing.split()[-1],
        "a_thing": article(thing),
        "weather": pick(WEATHER),
        "body": pick(BODY),
        "doing": pick(DOING),
        "feeling": pick(FEELINGS),
        "season": pick(SEASONS),
        "occasion": pick(OCCASIONS),
        "food": pick(FOODS),
        "place": pick(PLACES),
    }
    return pick(FORMS).format_map(slots)
