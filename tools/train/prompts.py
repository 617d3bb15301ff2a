"""Writing prompts for the teacher: seeded combinations of people, animals, places, things and plots.

Every prompt is a pair (request, opening): the request is what a user would type, the opening is the beginning of the
answer, which the teacher continues. The opening is part of the story.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

NAMES = (
    "Lily Tom Mia Ben Anna Max Sara Leo Ella Sam Rosie Jack Lucy Finn Nora Tim Amy Oscar Daisy Theo Ruby Hugo Ivy Noah "
    "Zoe Eli Maya Luke Emma Owen Lena Toby Clara Jacob Molly Adam Grace Peter Alice Henry Rose Mark Julia Felix Kate "
    "Simon Tara Milo Hana Omar Layla Ravi Priya Kenji Yuki Mei Diego Sofia Pablo Lucia Amir Zara Kofi Ama Ivan Nina"
).split()
ANIMAL_NAMES = (
    "Pip Bella Coco Rusty Biscuit Pepper Hazel Button Clover Ginger Buddy Willow Fern Patch Sunny Misty Poppy Bramble "
    "Nibbles Whiskers Fluffy Hoppy Spot Tiny Bruno Luna Waffles Mocha Olive Pebble Socks Snowy Dusty Ziggy Maple Acorn"
).split()
ANIMALS = (
    "fox rabbit bear mouse cat dog owl frog duck squirrel hedgehog turtle pony lamb goat pig hen robin crow penguin "
    "whale dolphin crab fish lion elephant monkey giraffe zebra tiger deer wolf badger beaver otter bee ant snail "
    "butterfly ladybug spider caterpillar dragon donkey cow sheep goose parrot mole bat seal"
).split()
PEOPLE = [
    "girl",
    "boy",
    "baker",
    "farmer",
    "fisherman",
    "gardener",
    "teacher",
    "painter",
    "tailor",
    "sailor",
    "king",
    "queen",
    "princess",
    "prince",
    "clockmaker",
    "shepherd",
    "postman",
    "doctor",
    "grandmother",
    "grandfather",
    "carpenter",
    "cook",
    "miller",
    "musician",
    "librarian",
    "robot",
    "snowman",
    "giant",
    "wizard",
    "fairy",
    "toymaker",
]
ADJECTIVES = (
    "little small brave shy kind curious clever lonely happy sleepy old young gentle busy quiet funny hungry careful "
    "proud lazy silly patient friendly grumpy cheerful honest tired playful tiny strong"
).split()
PLACES = [
    "in a small village",
    "near a deep forest",
    "by the sea",
    "on a farm",
    "in a big city",
    "at the foot of a mountain",
    "beside a quiet river",
    "in a green valley",
    "in a tall tree",
    "on a small island",
    "in a castle",
    "in the desert",
    "in a garden full of flowers",
    "next to a pond",
    "in a house on a hill",
    "under an old bridge",
    "in the jungle",
    "in a cozy little house",
    "at the edge of the woods",
    "in a town by the lake",
    "in a snowy land",
    "in a meadow",
    "behind the school",
    "above a bakery",
    "in a warm barn",
    "in a lighthouse",
    "on a boat",
    "in a cave",
    "at a busy market",
]
THINGS = (
    "lantern|red ball|kite|key|golden coin|blue umbrella|old map|music box|wooden boat|seed|book|hat|pair of boots|bell|"
    "feather|shiny stone|bicycle|cake|basket of apples|pot of honey|drum|flute|letter|candle|blanket|mirror|clock|"
    "paintbrush|ladder|rope|bucket|scarf|button|toy train|teddy bear|balloon|star|shell|jar of jam|loaf of bread|pumpkin|"
    "carrot|sled|wagon|puppet|ring|crown|telescope|swing|nest|egg|flower|apple tree|puzzle|doll|whistle|spoon|pillow"
).split("|")
PLOTS = [
    "loses {thing} and looks for it",
    "finds {thing}",
    "wants to share {thing}",
    "learns to swim",
    "learns to be patient",
    "makes a new friend",
    "gets lost and finds the way home",
    "helps a hurt bird",
    "is afraid of the dark",
    "wants to see the snow",
    "builds a house",
    "plans a surprise party",
    "breaks {thing} and tells the truth",
    "wants to fly",
    "plants a seed and waits",
    "cannot sleep",
    "goes on a picnic",
    "saves a friend from a storm",
    "learns to say sorry",
    "wants to win a race",
    "bakes a cake",
    "meets a stranger",
    "trades {thing} for something else",
    "hears a strange noise at night",
    "takes a trip on a train",
    "tries to catch the moon",
    "visits a grandmother",
    "helps a neighbor",
    "finds a hidden door",
    "gives {thing} as a gift",
    "learns to play music",
    "is too proud",
    "tells a lie and feels bad",
    "crosses a river",
    "wants to be bigger",
    "takes care of a sick friend",
    "looks for the end of the rainbow",
    "cleans a messy room",
    "waits for the rain",
    "learns to share",
    "paints a picture",
    "repairs {thing}",
    "goes to school for the first time",
    "joins a singing contest",
    "finds a lost puppy",
    "says goodbye to a friend",
    "follows footprints in the snow",
    "keeps a secret",
    "works together with others to move a heavy log",
    "learns to ride a bicycle",
    "wants {thing} very much",
    "hides {thing} from a friend",
    "discovers something under the bed",
    "climbs a tall tree",
    "gets a surprise in the mail",
]
MOODS = ["happy", "funny", "gentle", "exciting", "calm", "sweet", "surprising", "warm", "a little sad", "bedtime"]
WORDS = (
    "run jump laugh whisper climb dig wash hide sing dance carry build wait listen share smile hug open close cook swim "
    "wind rain cloud bridge road window door table tree hill stone cup chair soup nut leaf nest moon sun night morning "
    "warm cold soft loud quick slow bright dark sweet wet heavy light round sharp green yellow purple empty full dusty"
).split()
STYLES = [
    "Use simple words and short sentences.",
    "Use very simple words.",
    "Use words that a small child knows.",
    "Keep the sentences short.",
    "Write in plain, simple English.",
    "Make it easy to read aloud.",
]


@dataclass(frozen=True)
class Prompt:
    request: str
    opening: str


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" or noun.startswith("honest") else "a ") + noun


def make_prompt(rng: random.Random) -> Prompt:
    """One (request, opening); the same state of `rng` gives the same prompt."""
    pick = rng.choice
    animal = rng.random() < 0.5
    kind = pick(ANIMALS) if animal else pick(PEOPLE)
    name = pick(ANIMAL_NAMES) if animal else pick(NAMES)
    hero = f"{article(pick(ADJECTIVES) + ' ' + kind)} named {name}"
    place = pick(PLACES)
    plot = pick(PLOTS).format(thing=article(pick(THINGS)))
    style, mood = pick(STYLES), pick(MOODS)
    form = rng.random()
    if form < 0.40:
        request = f"Write a short story for young children about {hero} who {plot}. {style}"
    elif form < 0.55:
        request = f"Tell me a short, {mood} story about {hero}. It happens {place}. {style}"
    elif form < 0.70:
        words = ", ".join(rng.sample(WORDS, 3))
        request = f"Write a short {mood} story about {hero} for a child. Use the words {words}. {style}"
    elif form < 0.85:
        friend = pick(ANIMAL_NAMES)
        request = (
            f"Write a short story about {hero} and {article(pick(ANIMALS))} named {friend}. They talk to each other. "
            f"{name} {plot}. {style}"
        )
    else:
        request = f"Please tell a bedtime story {place}, with {article(pick(THINGS))} in it. {style}"
    opening = pick_opening(rng, hero, name, place)
    return Prompt(request, opening)


def pick_opening(rng: random.Random, hero: str, name: str, place: str) -> str:
    r = rng.random()
    if r < 0.30:
        return "Once upon a time"
    if r < 0.45:
        return f"Once upon a time, there was {hero}."
    if r < 0.55:
        return f"Once upon a time, {place}, there lived {hero}."
    if r < 0.65:
        return f"One {rng.choice(['day', 'morning', 'sunny day', 'night', 'rainy day', 'cold morning', 'evening'])}, {name}"
    if r < 0.72:
        return f"{name} was {hero.split(' named ')[0]}."
    if r < 0.79:
        return f"There once was {hero} who lived {place}."
    if r < 0.86:
        return f"{place[0].upper()}{place[1:]}, {name}"
    if r < 0.92:
        return f'"{rng.choice(["Look", "Wait", "Oh no", "Come here", "Hello", "Listen", "Help", "Good morning"])}'
    return rng.choice(["The", "Long ago", "It was", "Every morning", "Deep in", "High up", "At the", "When", "A"])


def prompts(seed: int, count: int) -> list[Prompt]:
    """`count` distinct prompts, reproducible from `seed`."""
    rng = random.Random(seed)
    seen: set[Prompt] = set()
    out: list[Prompt] = []
    while len(out) < count:
        prompt = make_prompt(rng)
        if prompt not in seen:
            seen.add(prompt)
            out.append(prompt)
    return out


if __name__ == "__main__":
    for p in prompts(1, 20):
        print(p.request, "=>", p.opening)
