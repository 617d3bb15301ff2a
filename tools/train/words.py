"""Words that questions are made of."""

from __future__ import annotations

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


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" or noun.startswith("honest") else "a ") + noun
