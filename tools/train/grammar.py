"""Stories put together by a grammar written by hand: plots of sentences with choices and people, animals and things.

A plot is text with choices "[this|that|]" (nested choices are allowed) and slots "{h}". The same seed gives the same
story. Its sentences keep track of who has what, which a small teacher often does not.
"""

from __future__ import annotations

import multiprocessing
import random
import re

GIRLS = """
Lily Mia Anna Sara Ella Rosie Lucy Nora Amy Daisy Ruby Ivy Zoe Maya Emma Lena Clara Molly Grace Alice Julia Kate Hana Layla Priya Mei Sofia Zara Nina Tara
Abby Ada Agnes Aisha Alma Amara Amelia Anita Astrid Ava Beth Bianca Carla Carmen Cecilia Charlotte Chloe Cora Dana Diana Dora Edith Elena Elise Eliza Elsa Erin Esme Esther Eva Eve Fatima Fiona
Flora Freya Frida Gina Gloria Greta Hannah Harriet Heidi Helen Ida Ines Irene Iris Isabel Jane Jasmine Jenny Jill Joan Joy June Karla Keiko Laura Leila Linda Lisa Lola Louise Luisa Lydia
Mabel Maria Marta Mary Matilda Megan Millie Mira Myra Nadia Naomi Nell Olga Olivia Opal Paula Pearl Petra Polly Rachel Rita Rosa Rose Ruth Sally Sarah Sasha Selma Sita Sonja Stella Susan Suzy Tess Tilda
Tina Uma Vera Viola Wendy Wilma Yara Yoko Yuki Yvonne
""".split()
BOYS = """
Tom Ben Max Leo Sam Jack Finn Tim Oscar Theo Hugo Noah Eli Luke Owen Toby Jacob Adam Peter Henry Mark Felix Simon Milo Omar Ravi Kenji Diego Amir Kofi Ivan
Aaron Abel Akira Alan Albert Alex Ali Andrew Anton Arlo Arthur Ash Axel Basil Bill Billy Bob Boris Carl Carlos Charlie Chen Chris Colin Dan Daniel David Dean Dennis Dylan Eddie Emil Eric Ethan Evan
Frank Fred Fritz George Gus Hans Harry Hassan Ian Igor Isaac Jake James Jan Jasper Jay Jean Jim Joe John Jonas Jose Josh Juan Karl Kevin Kim Kurt Lars Lee Leon Lewis Liam Louis Luca Malik Marco Martin Mateo Matt Miguel Mike Mohamed
Nat Ned Neil Niko Nils Noel Olaf Oliver Otto Pablo Paul Pavel Percy Phil Pierre Quinn Ralph Ray Remy Rex Rob Roy Rudi Ryan Samir Sean Seth Sven Ted Tariq Thomas Tony Victor Vik Walter Yusuf Zack
""".split()
PETS = """
Pip Bella Coco Rusty Biscuit Pepper Hazel Button Clover Ginger Buddy Willow Fern Patch Sunny Misty Poppy Bramble Nibbles Fluffy Spot Bruno Luna Mocha Olive Pebble Socks Snowy Dusty Maple Acorn Ziggy
Amber Archie Bean Berry Birch Boots Bubbles Bumble Cedar Chester Chip Cinnamon Cleo Cocoa Cookie Cosmo Crumb Dash Dot Ember Feather Fidget Fizz Flash Gizmo Goldie Honey Inky Jelly Juniper Kiwi Lucky Mango Marble Midnight Minty
Moss Muffin Nutmeg Oakley Onyx Orbit Peaches Peanut Pickle Pixel Plum Pogo Puddle Pumpkin Quill Ripple Rocket Rumble Sage Scout Shadow Sparky Sprout Sugar Tango Thistle Toffee Tumble Twig Twinkle Velvet Waffles Whiskers Zippy
""".split()
SMALL = "rabbit mouse frog squirrel hedgehog duck robin mole kitten puppy hen otter turtle bat lamb cat beaver parrot hamster penguin".split()
LARGE = "bear horse deer wolf cow donkey elephant lion goat fox owl badger pig goose sheep dog tiger monkey giraffe panda pony dragon dinosaur robot".split()
TRAITS = "little small brave shy kind curious clever lonely happy sleepy young gentle busy quiet hungry careful proud cheerful honest playful".split()
PLACES = [
    "in a small village",
    "near a deep forest",
    "by the sea",
    "on a farm",
    "at the foot of a mountain",
    "beside a quiet river",
    "in a green valley",
    "on a small island",
    "next to a pond",
    "in a little house on a hill",
    "near an old bridge",
    "at the edge of the woods",
    "in a town by a lake",
    "close to a big meadow",
    "in a snowy land",
    "in a warm, sunny land",
]
TOYS = [
    "red ball",
    "blue kite",
    "wooden boat",
    "little drum",
    "toy train",
    "music box",
    "teddy bear",
    "silver whistle",
    "yellow balloon",
    "paper lantern",
    "green scarf",
    "shiny bell",
    "picture book",
    "red wagon",
    "straw hat",
    "round mirror",
]
FINDS = [
    "golden key",
    "shiny stone",
    "old map",
    "blue feather",
    "big white egg",
    "silver coin",
    "pink shell",
    "silver bracelet",
    "glass bottle",
    "brown seed",
    "small wooden box",
    "lost letter",
]
FOODS = [
    "apple pie",
    "carrot soup",
    "honey bread",
    "berry jam",
    "pumpkin soup",
    "chocolate cake",
    "warm bread",
    "nut cookies",
    "plum cake",
    "corn bread",
]
FRUITS = ["apples", "pears", "berries", "carrots", "nuts", "plums", "cherries", "pumpkins"]

DAYS = "[One [sunny|rainy|windy|cold|warm|bright|quiet] [day|morning|afternoon]|One day|One morning|One evening|The next day|On a [cold|warm|windy] morning]"
SAD = "[{h} felt very sad.|{h} sat down and began to cry.|A tear ran down {his} nose.|{h} did not know what to do.|{He} felt a big lump in {his} throat.]"
GLAD = "[{h} was so happy that {he} [jumped up and down|danced in a circle|laughed out loud|sang a little song].|{h} smiled a big smile.|{His} heart felt warm.|{h} clapped and cheered.]"
THANKS = '["Thank you so much," said {h}.|"Thank you, {f}!" said {h}.|"You are a good friend," said {h}.|"I could not have done it without you," {h} said.]'
MEET = "[A {fk} named {f} came [by|along the path|out of the grass].|Just then, a {fk} named {f} [walked by|came along|looked out from behind a tree].|Not far away lived a {fk} named {f}. {F_he} heard the noise and came to see.]"
CLOSE = [
    "From that day on, {h} and {f} were [best friends|the best of friends|always together].",
    "[That night|That evening], {h} went to bed with a smile. [{He} dreamed of {thething}.|The moon looked in at the window.|Outside, the stars were shining.]",
    "And [every day|every week|each spring] after that, {h} and {f} [played together|met under the old tree|shared their lunch|went for a walk].",
    "{h} never forgot that day.",
    '"[This was the best day|What a good day|I will remember this day]," said {h}. And {f} [agreed|nodded|smiled].',
    "They laughed together until the sun went down. [Then they walked home hand in hand.|Then it was time to go home.|]",
]
INTRO = [
    "Once upon a time, there was a {trait} {hk} named {h}. {He} lived {place}.",
    "Once upon a time, {place}, there lived a {trait} {hk} named {h}.",
    "Once upon a time, there lived a {trait} {hk} {place}. {His} name was {h}.",
    "{h} was a {trait} {hk} who lived {place}.",
    "There once was a {trait} {hk} named {h}. {His} home was {place}.",
    "A long time ago, a {trait} {hk} named {h} lived {place}.",
    "Once there was a {hk} named {h}. {He} was {trait}, and {he} lived {place}.",
    "In the spring, a {trait} {hk} named {h} moved to a new home {place}.",
    "One day, a {trait} {hk} named {h} [woke up early|sat in front of {his} house|was very happy|had nothing to do|looked at the sky]. {He} lived {place}.",
    "One [morning|evening|summer], a {trait} {hk} named {h} came to live {place}.",
    "Long ago, {place}, there was a {hk} named {h}. {He} was very {trait}.",
    '"[Good morning|Hello|Look|Good day|Listen]!" said {h} to the [sun|birds|flowers|wind]. {h} was a {trait} {hk} who lived {place}.',
    "The sun was shining {place}. A {trait} {hk} named {h} [opened the door|came out of the house|was sitting in the grass].",
    "There lived a {hk} {place}. {His} name was {h}, and {he} was {trait}.",
    "Do you know {h}? {h} is the {trait} {hk} who lives {place}. This is what happened to {him}.",
    "Far away, {place}, lived {h}, a {trait} {hk}.",
    "It was a [sunny|quiet|windy|cold|warm] [morning|day|afternoon]. {h}, a {trait} {hk}, was at home {place}.",
    "This is a story about {h}. {h} was a {hk}, and {he} lived {place}.",
    "My friend {h} is a {trait} {hk}. {He} lives {place}, and once this happened to {him}.",
    "[A|The] {trait} {hk} {place} had a [nice|short|funny] name. It was {h}.",
    "Every morning, a {trait} {hk} named {h} walked to the [well|gate|old tree]. {He} lived {place}.",
    "When {h} was still very young, {he} lived {place}. {He} was a {trait} {hk}.",
    "{h} and {f} were friends. {h} was a {trait} {hk}, and {f} was a {fk}. They lived {place}.",
]
# Requests; {a} is the hero with a trait, a kind and a name, {kind} the kind alone.
ASKS = [
    "Write a short story for young children about {a} who {plot}.",
    "Tell me a story about {a} who {plot}.",
    "Write a short story about {a} and {friend} named {f}.",
    "Please tell a story about {a}.",
    "Tell me a bedtime story {place}.",
    "Write a story with {kind} and {friend} in it.",
    "Please tell me what happened to {a}.",
    "[Can|Could] you tell me a [|short |nice |funny ]story about {a}?",
    "I want to hear [a|another] story about {kind} and {friend}.",
    "A story about {a}, please.",
    "[Tell me|Write|Write me|Please tell me|Make up] a [|short |nice |little |new |good |bedtime |children's ]story.",
    "[Tell me|Write|Write me|Please tell me|Give me] a [|short |nice |little |new |bedtime ]story about {kind}.",
    "[Tell me|Write|Please write|Make up] a [|short |nice |little |funny ]story about {kind} [named|called] {h}.",
    "[Tell me|Write|Please write] a [|short |nice |bedtime ]story about {h} the {hk}.",
    "[Can|Could] you [tell me|write|make up] a [|short |nice |bedtime ]story[|, please| about {kind}| about {kind} who {plot}]?",
    "[I would like|I want|I'd like] a [|short |bedtime ]story [|about {kind}|with {kind} in it|about {h}, {trait_kind}].",
    "[A|Another] [|short |bedtime ]story[|, please| about {kind}| about {h} the {hk}].",
    "[Once more, please: tell|Now tell|Tell] me about {kind} [named {h}|called {h}|who {plot}].",
]
TALK = [
    (
        "[Hello|Hi|Hello there|Good morning|Hey]",
        "[Hello!|Hello there!|Good day!] [Shall I tell you a story?|Would you like to hear a story?|Tell me who the story should be about.]",
    ),
    (
        "[What is your name|Who are you|What are you]?",
        "I am a small story teller. [Ask me for a story!|Tell me the name of your hero, and I will begin.|I know stories about animals and children.]",
    ),
    (
        "[What can you do|Can you help me|What do you know]?",
        "I can tell short stories. [Give me an animal and a name.|Just say who the story is about.]",
    ),
    (
        "[Thank you|Thanks|Thank you for the story|That was nice]",
        "You are welcome! [Shall I tell you another one?|Come back when you want another story.]",
    ),
    ("[Good night|Bye|Goodbye|See you tomorrow]", "[Good night! Sleep well.|Goodbye! Come back soon.|See you soon!]"),
    (
        "[How are you|How are you today]?",
        "[I am fine, thank you.|I am very well, thank you.] [Would you like a story?|What story shall I tell?]",
    ),
]
LIKES = "[{h} liked to [sing in the morning|watch the clouds|look for {fruits}|climb the hill|run in the grass|listen to the birds|count the stars].|Every day, {h} [went for a walk|played outside|worked in the garden|sat under a tall tree|watched the birds].|Everyone knew {h}, because {he} [was always laughing|asked so many questions|always said hello|liked to help].|]"

# name -> (request, paragraphs)
PLOTS: dict[str, tuple[str, list[str]]] = {
    "lost": (
        "loses {thing} and looks for it",
        [
            "{h} had {thing}. [It was a gift from {his} grandmother.|{He} took it everywhere.|It was {his} favorite thing in the world.|It had {his} name on it.]",
            DAYS
            + ", {thething} was gone. {h} looked [under the bed|behind the door|in the garden|near the pond]. {He} looked [in the kitchen|under the table|behind the bushes|in the tall grass]. [It was not there.|It was not anywhere.|But {he} could not find it.] "
            + SAD,
            MEET
            + ' "[Why are you so sad|What is wrong|Why are you crying|Can I help you]?" [asked {f}|{f} asked].\n\n"I lost my {toy}," said {h}. "[I have looked everywhere|I miss it so much|I do not know where it is]."\n\n"[Let us look together|Do not worry. I will help you|Two can look better than one]," said {f}.',
            'They went [down to the river|back along the path|up the hill|into the forest]. [{f} looked up, and {h} looked down.|They asked every bird they met.|They looked behind every stone.] At last, {f} [stopped|called out|pointed]. "[Look|Look there|What is that]!" {f_he} said. {Thething} was [hanging on a branch|lying under a big leaf|in an old nest|behind a log|at the side of the road].',
            GLAD + " " + THANKS + " {close}",
        ],
    ),
    "find": (
        "finds {find}",
        [
            LIKES,
            DAYS
            + ', {h} [was digging in the garden|was walking along the path|was playing near the water|was looking for {fruits}]. Suddenly, {he} saw {find} [in the mud|under a leaf|between two stones|in the grass]. "[What is this|Where did it come from]?" {he} said.',
            '{h} showed it to {his} friend {f}, a {ftrait} {fk}. "[I found it, so it is mine|It is the best thing I have ever found|I want to keep it]," said {h}.\n\n"[But someone may be looking for it|Maybe someone lost it|It must belong to someone]," said {f}.',
            '{h} [thought about this|thought for a long time|was quiet for a while]. Then they went from house to house and asked everyone. [The baker shook his head.|The farmer said no.] [The teacher did not know it.|The postman had never seen it.] At the last house, an old {old} opened the door. "My {findword}!" {oldhe} cried. "[I thought I would never see it again|I have looked for it for years|It was a gift from my mother]."',
            '{Oldhe} gave {h} and {f} [a big piece of {food}|a bowl of {fruits}|two cups of warm milk and some {food}]. [{h} was glad that {he} had given it back.|Giving it back felt better than keeping it.|"It was right to ask," said {h}.] {close}',
        ],
    ),
    "dark": (
        "is afraid of the dark",
        [
            "{h} was not afraid of [dogs|storms|tall trees|deep water]. But {he} was afraid of the dark. Every night, {he} [pulled the blanket over {his} head|asked for a light|listened to every small sound].",
            '{DAYS1C}, {his} friend {f} the {fk} came to stay. When it was time to sleep, {f} [put out the candle|turned off the light|closed the curtain]. "[Please do not do that|Wait|Oh no]," said {h}. "[I am afraid of the dark|I cannot see anything|There may be something in the room]."',
            '"[Come with me|Take my hand|I want to show you something]," said {f}. They went [to the window|out to the garden|to the top of the hill]. The sky was full of [stars|small bright stars|stars, and the moon was round and white]. [An owl called from a tree.|A soft wind moved the leaves.|A little firefly flew by.]',
            '"[We can only see the stars when it is dark|The dark makes the stars shine|Without the dark, there would be no stars]," said {f}.\n\n{h} looked up for a long time. "[They are beautiful|I never knew that|I have never seen so many]," {he} said.',
            "[That night, {h} slept well.|After that, {h} did not need a light any more.|When they came back, {h} put out the light {himself}.] {close}",
        ],
    ),
    "share": (
        "learns to share",
        [
            '{h} had a big basket of {fruits}. [{He} had picked them all morning.|They came from {his} own garden.|They were sweet and fresh.] "These are all for me," {he} said.',
            MEET
            + ' "[I am so hungry|Those look very good|I have not eaten today]," said {f}. "[May I have one|Could you give me a few|Will you share with me]?"\n\n"No," said {h}. "[I need them all|They are mine|Go and find your own]." {f} walked away [slowly|with {f_his} head down|without a word].',
            '{h} ate and ate. [Soon {his} tummy began to hurt.|The {fruits} did not taste so good any more.|But it was no fun to eat alone.] {He} thought about {f}. "[I was not kind|That was not nice of me|I wish I had said yes]," {he} said.',
            'So {h} took the basket and [ran after {f}|went to look for {f}|walked all the way to {f}\'s house]. "I am sorry," {he} said. "[Please take as many as you like|Half of them are for you|Let us eat them together]."',
            'They sat down [under a tree|in the soft grass|on the steps] and ate {fruits} together. [Now they tasted sweet again.|"They taste better this way," said {h}.|{f} told a funny story, and they both laughed.] {close}',
        ],
    ),
    "swim": (
        "learns to swim",
        [
            "{h} could run, and {he} could jump, but {he} could not swim. [The other animals played in the water all summer.|All {his} friends splashed in the lake.|{He} always sat on the shore and watched.]",
            DAYS
            + ', {his} friend {f} the {fk} said, "[I can teach you.|Come into the water with me.|Do you want to learn to swim?]"\n\n"[The water is too deep|I am afraid|I will sink]," said {h}.\n\n"[We will start where it is not deep|I will hold you|We will go slowly]," said {f}.',
            'On the first day, {h} only put {his} feet in. [It was cold!|It tickled!] On the second day, {he} went in up to {his} tummy. On the third day, {he} lay on the water, and {f} held {him}. "[Kick|Kick your legs|Breathe slowly]," said {f}. {h} kicked [and splashed|as hard as {he} could|and kicked].',
            'Then {f} let go. {h} [did not sink|was swimming|kept moving]! "[I am swimming|Look at me|I can do it]!" {he} called.',
            GLAD
            + ' ["You learned it, because you did not give up," said {f}.|"I knew you could do it," said {f}.] {close}',
        ],
    ),
    "storm": (
        "saves a friend from a storm",
        [
            "{h} had a good friend, a {ftrait} {fk} named {f}. {f} lived [in a nest in the old tree|in a small house by the river|on the other side of the hill].",
            'One [windy|dark|gray] [day|morning|afternoon|evening], a big storm came. The wind [blew and blew|pulled at the trees|was very loud]. The rain [fell like stones|did not stop|filled the river]. {h} was [safe and dry at home|sitting by the fire|warm in {his} bed]. Then {he} thought, "[What about {f}?|Is {f} safe?|I hope {f} is not alone.]"',
            '{h} put on {his} coat and went out. [The wind pushed {him} back, but {he} kept going.|The path was full of mud.|It was hard to see.] When {he} came to {f}\'s home, {he} heard a small voice. "Help!" A [big branch|tall tree] had fallen, and {f} could not get out.',
            '{h} [pulled and pushed|pulled with all {his} strength|used a long stick] until the wood moved a little. {f} [crawled out|squeezed through the gap|jumped free]. "[Quick, come with me|Hold on to me|Let us go home]," said {h}.',
            'They ran back together. {h} made [hot soup|warm milk|a cup of tea] and gave {f} a dry blanket. ["You came in the storm just for me," said {f}.|"You are the bravest {hk} I know," said {f}.] "[That is what friends do|I was afraid, but I thought of you|You would do it for me]," said {h}. [In the morning, the sun was shining.|By morning, the storm was over.] {close}',
        ],
    ),
    "cake": (
        "bakes {bake}",
        [
            "{h} wanted to make {bake}. [It was {f}'s birthday.|{His} friend {f} was coming to visit.|{He} had never made it before.] {f} was a {fk} who [loved good food|was always hungry|lived next door].",
            "{h} put [flour|eggs and milk|sugar and butter] into a big bowl. {He} [stirred and stirred|mixed it all with a spoon]. [Some of it fell on the floor.|There was flour on {his} nose.|It looked a little strange.] Then {he} put it in the oven and [went out to play|sat down to rest|began to read a book].",
            '{h} forgot about the time. Soon there was [a bad smell|black smoke in the kitchen|a funny smell]. "Oh no!" {he} cried. The {bake} was [as black as coal|burned|hard like a stone]. '
            + SAD,
            'Then {f} [knocked at the door|came in|looked in at the window]. "[I wanted to make something nice for you|I am sorry. I burned it|It is all spoiled]," said {h}.\n\n{f} laughed. "[We can make a new one together|I burned my first one too|Come, I will help you]."',
            "This time they [watched the oven|waited and did not go away|counted the minutes]. The {bake} came out [golden and warm|soft and sweet|just right]. They ate it [while it was hot|with cold milk|down to the last crumb]. {close}",
        ],
    ),
    "seed": (
        "plants a seed and waits",
        [
            '{h} found a small brown seed. {He} made a hole in the ground, put the seed in, and gave it some water. "Now grow!" {he} said.',
            '{h} waited all day. Nothing happened. The next day, {he} [looked again|went out early|sat beside it], but there was only [brown earth|dirt]. "[My seed is broken|It does not want to grow|I think it is asleep]," {h} told {f}, the {fk}.',
            '"[You must be patient|Good things take time|A seed cannot hurry]," said {f}. "[Give it water every day|Let the sun and the rain do their work|Come back each morning and wait]."',
            "So {h} gave it water [every morning|each day]. [The sun shone.|The rain fell.|Bees flew by.] A week went by. Then, {DAYS1}, {h} saw a tiny green leaf. It grew and grew. It became [a tall sunflower|a pumpkin plant|a rose bush|a little apple tree].",
            '"[You were right|It was worth waiting for|I waited, and it came]," said {h}. [{He} gave {f} the first flower.|The two friends sat in its shade.|They looked at it until the sun went down.] {close}',
        ],
    ),
    "home": (
        "gets lost and finds the way home",
        [
            LIKES + ' {His} mother always said, "Do not go too far."',
            DAYS
            + ', {h} saw a [yellow|blue|white] butterfly. {He} ran after it, [over the hill|through the grass|past the big tree] and into the [forest|woods]. When the butterfly flew away, {h} looked around. [All the trees looked the same.|{He} did not know this place.|There was no path.] "I am lost," {he} said. '
            + SAD,
            MEET
            + ' "[Are you lost|Where do you live|Why are you here all alone], little one?" {f_he} asked.\n\n"[I live|My home is] {place}," said {h}. "Can you help me?"',
            '"[I know that place|Follow me|Stay close to me]," said {f}. They walked [by the stream|under the tall trees|for a long time]. [{f} told {h} the names of the birds.|When {h} was tired, they rested on a log.|The sun was going down.] At last, {h} saw a light. "That is my house!" {he} [cried|called].',
            '{His} mother ran out and hugged {him}. ["I was so worried," she said.|"Where have you been?" she asked.] {h} told her everything. [Mother gave {f} some {food}.|{f} stayed for dinner.] {h} promised not to go so far again. {close}',
        ],
    ),
    "race": (
        "wants to win a race",
        [
            "Every [summer|spring|year] there was a big race. {h} wanted to win. {He} ran every day, [in the sun and in the rain|up the hill and down again|before breakfast].",
            'On the day of the race, {h} stood next to {f}, a {ftrait} {fk}. "[Good luck|May the best one win|I hope you run well]," said {f}. "[One, two, three, go|Ready, set, go]!" called the [old owl|teacher|farmer].',
            "{h} ran [fast|like the wind|as fast as {he} could]. Soon {he} was ahead of everyone. Then {he} heard a cry. {f} had [fallen over a stone|hurt {f_his} foot|tripped and fallen]. {h} looked at the finish line. It was so close. Then {he} looked back at {f}.",
            '{h} [turned around|stopped and went back|did not think long]. "[Hold on to me|Come, we will go together|Put your arm around me]," {he} said. All the others ran past them. {h} and {f} were the last to cross the line.',
            'But everyone [clapped and cheered|called their names|jumped up and clapped]. "[You did not win the race, but you won a friend|You have the biggest heart of all|That was better than first place]," said the old owl. '
            + GLAD
            + " {close}",
        ],
    ),
    "lie": (
        "tells a lie and feels bad",
        [
            "{h} was playing inside with a [red|blue|big|yellow] ball, [although Mother had told {him} to play outside|because it was raining outside]. {He} threw it up in the air. Crash! It hit Mother's [blue|best|white] vase, and the vase broke.",
            '"Who broke my vase?" asked Mother.\n\n"[It was {f}|{f} did it|I think it was {f}]," said {h}. {f} was the {fk} who lived next door.\n\nMother [was not happy with {f}|told {f} to go home|looked at {f} with sad eyes]. {f} [did not say anything|began to cry|looked at the floor].',
            '{h} could not [eat {his} dinner|sleep that night|play any more]. {He} felt [a stone in {his} tummy|very bad|worse and worse]. "[I told a lie|{f} is my friend, and I was unkind|I must tell the truth]," {he} thought.',
            '{h} went to {his} mother. "[It was me|I broke the vase]," {he} said. "[I was afraid you would be angry|I am sorry that I lied]."\n\nMother [hugged {him}|took {his} hand|was quiet for a moment]. "[It was brave to tell me|A vase can be mended|Thank you for telling the truth]," she said. "Now go and talk to {f}."',
            '{h} ran to {f}. "I am sorry," {he} said. "[Can you forgive me|Will you still be my friend]?"\n\n"[Yes|Of course]," said {f}. They [mended the vase with glue|played together until dinner|shared some {food}]. {close}',
        ],
    ),
    "moon": (
        "tries to catch the moon",
        [
            '{DAYS2}, {h} saw the moon. It was [big and round|yellow like cheese|as bright as a lamp]. "I want to have it," {he} said.',
            "First, {h} climbed [a hill|the tallest tree|a long ladder]. But the moon was still too high. Then {he} [jumped|threw a rope|stood on a chair on top of a table]. [But the moon did not come down.|That did not work.|{He} fell on {his} back.]",
            '{f} the {fk} was watching. "What are you doing?" asked {f}.\n\n"I am trying to catch the moon," said {h}. "[I want to keep it in my room|It looks lonely up there|I want to see it every night]."\n\n"[I know where you can find it|Come with me|I can show you another moon]," said {f}.',
            "They went to the [pond|lake|well]. There, on the dark water, was the moon! {h} put a bucket into the water and pulled it up. The moon was in it. [{He} looked at it and laughed.|It was small and bright.]",
            '"[Now the moon can be in the sky and in my bucket|It is there for everyone|Look, you can have one too]," said {h}. They sat [by the water|side by side] and watched the two moons until they were sleepy. {close}',
        ],
    ),
    "music": (
        "learns to play music",
        [
            "{h} [found|was given] an old {horn}. {He} wanted to play it, but it only made [a terrible noise|a funny squeak|a sad sound]. The birds flew away. {f} the {fk} covered {f_his} ears.",
            '"[Please stop|That hurts my ears|What a noise]," said {f}.\n\n"[I only want to play a song|I will never learn it|It is too hard for me]," said {h}. '
            + SAD,
            '{f} [felt sorry|came closer|sat down beside {him}]. "My grandfather could play," said {f}. "[He played a little every day|He said that you must listen first|He began with one note]. Try it again, but [slowly|softly]."',
            "{h} tried again. [One note was good.|It was a little better.] {He} played [every morning and every evening|each day by the river|behind the barn, where no one could hear]. After [a week|a month], {he} could play a short song. After [two months|a long winter], {he} could play a long one.",
            '{DAYS1C}, there was a party {place}. {h} played, and [everyone danced|the birds sang with {him}|even the old goat danced]. {f} danced the most. "[I am glad you did not stop|You play just like my grandfather|Play it again]," said {f}. {close}',
        ],
    ),
    "bird": (
        "helps a hurt bird",
        [
            LIKES,
            DAYS
            + ', {h} found a small bird on the ground. Its wing was hurt, and it could not fly. "[Poor little bird|Do not be afraid|I will help you]," said {h}. {He} [picked it up with soft hands|put it in a basket with dry grass|wrapped it in {his} scarf] and carried it home.',
            '{h} asked {f}, the {ftrait} {fk}, what to do. "[Give it water and seeds|Keep it warm|Let it rest]," said {f}. "[And do not hold it too tight|A wing needs time to heal|I will help you look after it]."',
            "For [many days|two weeks], they took care of the bird. [They gave it seeds and fresh water.|They sang to it at night.|{h} told it stories.] Little by little, the wing became strong. {h} [loved the bird very much|wanted to keep it|gave it a name].",
            'Then the bird [looked at the sky|sat at the open window|began to move its wings]. "It wants to go," said {f}. {h} was sad, but {he} opened [the window|the door]. The bird flew [up, up into the blue sky|around the house three times|over the trees]. [The next spring, it came back and built a nest near {h}\'s window.|Every morning after that, it came to sing for {h}.] {close}',
        ],
    ),
    "new": (
        "makes a new friend",
        [
            "{h} [was new and did not know anyone|had no one to play with|often played alone]. [{He} talked to the trees.|{He} made up games for one.|{He} watched the others from far away.]",
            DAYS
            + ", {h} was sitting [on a log|by the water|under a tree] with {thing}. "
            + MEET
            + ' {f} stopped and looked.\n\n"[What do you have there|Is that yours|What is your name]?" asked {f}.',
            '{h} was [too shy to speak at first|so surprised that {he} could not speak]. Then {he} said, "[I am {h}, and this is my {toy}. Do you want to see it|My name is {h}. This is my {toy}. Would you like to hold it]?"\n\n{f} [held it very carefully|smiled and sat down|was happy]. "[I am new here too|I also play alone|I was looking for a friend]," said {f}.',
            "They [played all afternoon|talked and talked|showed each other their secret places]. {f} could [whistle|do a funny dance|tell good jokes], and {h} could [tell stories|climb very well|draw pictures in the sand]. [They laughed a lot.|The time went by so fast.]",
            '"[Will you come back tomorrow|Can we meet again|Shall we play again tomorrow]?" asked {h}.\n\n"[Yes|Of course|I would like that]," said {f}. {close}',
        ],
    ),
    "noise": (
        "hears a strange noise at night",
        [
            '{DAYS2}, {h} was lying in bed. Then {he} heard a noise. [Tap, tap, tap.|Scratch, scratch, scratch.|Thump, thump, thump.] "What is that?" {he} whispered.',
            "[{h} looked under the bed. There was only a sock.|{h} looked in the closet. There were only clothes.] [{He} looked behind the curtain. There was only the wall.|{He} looked behind the chair. There was nothing.] But the noise came again, [a little louder|and again].",
            '{h} took a [candle|lamp] and went to the door. {His} [knees were shaking|heart beat fast]. {He} took a deep breath and opened the door. There stood a {ftrait} {fk}, [all wet from the rain|cold and tired|with a big bag].\n\n"[Good evening|Please do not be afraid|I am sorry that I woke you]," said the {fk}. "My name is {f}. [I lost my way|My house is full of water|I saw your light]. May I come in?"',
            '{h} [laughed|was not afraid any more|felt better at once]. "[Come in|Of course]," {he} said. {He} gave {f} [a blanket|a warm place by the fire] and [some {food}|a cup of hot milk].',
            'They [talked until late|told each other stories|listened to the rain]. ["I thought you were a monster," said {h}. They both laughed.|"A strange noise can be a new friend," said {h}.] {close}',
        ],
    ),
    "boat": (
        "builds a boat",
        [
            '{h} wanted to see what was on the other side of the [lake|river]. "[There must be something wonderful there|I want to go there|I will build a boat]," {he} said.',
            '{He} [took some old boards|found a big wooden box|tied some logs together] and worked [all day|for three days]. {f} the {fk} came to watch. "[That will not float|It has a hole in it|A boat needs a sail]," said {f}.\n\n"[Then help me|You can come with me if you help|Show me how to do it]," said {h}.',
            "So they worked together. {f} [closed the hole with mud and grass|made a sail from an old sheet|found two long sticks for the oars], and {h} [painted the boat blue|put in two small seats|made everything strong with rope]. [At last it was ready.|Then they pushed it into the water.] It floated!",
            "They [rowed and rowed|let the wind push them] to the other side. There they found [a field full of {fruits}|a beach with white sand|another {fk}, who was {f}'s cousin|a quiet place with flowers]. [They stayed until the sun was low.|They ate their lunch there.|They gave the place a name.]",
            '"[I could not have built it alone|Next time, we will go even farther|We are real sailors now]," said {h}. {close}',
        ],
    ),
    "picnic": (
        "goes on a picnic",
        [
            DAYS
            + ", {h} and {his} friend {f}, a {ftrait} {fk}, went on a picnic. They had [{food} and {fruits}|a basket with {food}|a big basket of {fruits}] and [a bottle of milk|some cold water|a red blanket].",
            "They found a nice place [under an old tree|by the stream|on the top of a hill]. [The grass was soft.|The birds were singing.|The sun was warm.] They put the basket down and went to [play by the water|pick flowers|look at the view].",
            'When they came back, the basket was [empty|open, and the {food} was gone]. "Who ate our lunch?" said {h}. [{f} looked behind the tree.|They saw small footprints on the ground.|There were crumbs in the grass.] A long line of [ants|little mice] was carrying the last crumbs away.',
            '{h} was [angry at first|a little cross]. Then {he} saw a very small [one|baby] with a very big crumb. It [fell down, got up, and tried again|pulled and pulled]. {h} began to laugh. "[They were more hungry than we were|They work so hard|It is their picnic too]," {he} said.',
            '{f} found some [berries|nuts|apples] [in the bushes|under a tree], and the two friends ate those. "[It was still a good picnic|Next time, we will bring two baskets]," said {f}. {close}',
        ],
    ),
    "gift": (
        "gives {thing} as a gift",
        [
            "Tomorrow was {f}'s birthday. {f} was a {fk} and {h}'s best friend. {h} wanted to give {f_him} something nice, but {he} had no money. [{He} looked in {his} room.|{He} thought and thought.|{He} opened all the boxes in the house.]",
            'The only nice thing {he} had was {his} {toy}. {h} loved it very much. [{He} held it in {his} hands for a long time.|{He} played with it one last time.|"It is mine," {he} thought. "But {f} would love it too."] Then {he} [wrapped it in paper|put it in a box with a ribbon|tied a ribbon around it].',
            'At the party, {f} opened the gift. "Your {toy}!" {f_he} said. "[But you love it.|It is your favorite thing.|Are you sure?]"\n\n"[I want you to have it|You are my best friend|It is yours now]," said {h}.',
            '{f} [hugged {h}|did not know what to say|was very quiet]. Then {f_he} had an idea. "[It can live with me for one week, and with you for the next|We can play with it together every day|Let it belong to both of us]," {f_he} said.',
            GLAD + " [They ate {bake} and played until it was dark.|It was the best party of the year.] {close}",
        ],
    ),
    "sick": (
        "takes care of a sick friend",
        [
            'Every morning, {h} met {his} friend {f} the {fk} [by the gate|at the well|under the big tree]. But one morning, {f} did not come. {h} waited [and waited|for a long time]. "Something is wrong," {he} thought.',
            '{h} went to {f}\'s house. {f} was in bed. "[My head hurts|I am so hot and so cold|I cannot get up]," said {f} [with a weak voice|quietly].\n\n"[Stay in bed. I will take care of you|Do not worry. I am here|I will make you something warm]," said {h}.',
            "{h} made [carrot soup|hot tea with honey|pumpkin soup] and put [a cool cloth on {f}'s head|one more blanket on the bed]. {He} [opened the window a little|swept the floor|fed the fire]. Then {he} [read {f} a story|sang a quiet song|sat down beside the bed] until {f} fell asleep.",
            '{h} came back the next day, and the day after that. {He} never came with empty hands. [Once, {he} brought flowers.|Once, {he} brought {fruits}.] On the fourth day, {f} was [standing at the door|sitting up in bed|up and dressed]. "I am well again!" {f_he} said.',
            '"[Your soup was better than any medicine|I was not lonely, because you came|When you are sick, I will come to you]," said {f}. {close}',
        ],
    ),
    "snow": (
        "sees snow for the first time",
        [
            '{h} had never seen snow. [{His} grandmother had told {him} about it.|{He} had only seen it in a book.] "[Is it like sugar|Is it like feathers|Is it really white]?" {he} asked.\n\n"Wait and see," said {f}, the {fk}.',
            "{h} waited all [autumn|November]. [The leaves fell.|The nights became long.|It rained, and it rained.] Then, one morning, everything was quiet. {h} looked out of the window. The [hill|garden|whole world] was white!",
            "{h} ran outside. {He} [put out {his} tongue and caught a snowflake|jumped into the snow|touched it with one finger]. It was [cold and soft|so cold that {he} laughed]. {f} came too. They [made a big snowman|threw snowballs|slid down the hill on an old board].",
            'The snowman got [a carrot for a nose|two stones for eyes|an old hat]. "[He looks a little like you|He looks cold|He needs a name]," said {f}. [{h} gave the snowman {his} scarf.|They called him Mister White.] When it was dark, they went in and drank [hot milk|hot chocolate] by the fire.',
            '"[It is not like sugar, and not like feathers|Snow is better than I thought|I hope it snows again]," said {h}. {close}',
        ],
    ),
    "tower": (
        "climbs a tall tree",
        [
            'There was a very tall tree {place}. Nobody had ever climbed to the top. "I will do it," said {h}. [Everyone laughed.|"You are too small," they said.|Nobody believed {him}.]',
            DAYS
            + ', {h} began to climb. The first branches were easy. [Then the wind began to blow.|Then the branches became thin.|Then {he} looked down.] The houses looked like [toys|little boxes]. {h} held on with all {his} strength. "[I cannot go up, and I cannot go down|I am stuck|Help]," {he} called.',
            '{f}, a {ftrait} {fk}, heard {him}. "[Do not look down|Look at me|Listen to my voice]," said {f}. "[Put your foot on the next branch|Take one small step|Breathe slowly]. [Now the next one.|Good.|Very good.]"',
            'Step by step, {h} [came down|found the way down]. {His} knees were weak when {he} stood on the grass. ["I did not get to the top," said {h}.|"Now they will laugh again," said {h}.]\n\n"[You went higher than anyone|It is brave to try, and it is brave to come down|The tree will be there tomorrow]," said {f}.',
            "The next [week|summer], they climbed it together. From the top they could see [the sea|the far blue mountains|all the way to the city]. {close}",
        ],
    ),
    "clean": (
        "cleans a messy room",
        [
            '{h}\'s room was a mess. There were [socks on the lamp|books under the bed|toys on every chair]. ["Please clean your room," said Mother.|"You must clean it today," said Father.] "[Later|I will do it tomorrow|I know where everything is]," said {h}.',
            'Then {f} the {fk} came to play. "[Where is your {toy}|Can we play with your {toy}|Did you find your {toy}]?" asked {f}. {h} looked for it [everywhere|under everything]. {He} found [an old apple|a lost shoe|three spoons], but {he} did not find {thething}.',
            '"[We can make a game of it|Let us clean up, and we will find it|I will help you]," said {f}. "You take the [books|socks], and I take the [toys|boxes]. Ready, set, go!"',
            'They [ran and laughed|worked fast|sang while they worked]. Soon {h} could see the floor again. And there, [behind the door|under the last shirt|in the corner], was {thething}! "[Here it is|I have it]!" called {h}.',
            'Now there was room to play. [They built a long train track.|They built a tower up to the ceiling.|They danced in the middle of the floor.] "[It is nice in here|I can find everything now|From now on, I will clean it every week]," said {h}. {close}',
        ],
    ),
    "joke": (
        "wants to make everyone laugh",
        [
            '{f} the {fk} [had not laughed for a week|was in a bad mood|was always serious]. "I will make {f} laugh," said {h}.',
            "First, {h} [put a bowl on {his} head and walked like a king|made a funny face|sang with a very high voice]. {f} [only looked at {him}|did not laugh|said that {f_he} was busy]. Then {h} [told a joke about a fish|danced on one leg|talked like a duck]. {f} [shook {f_his} head|yawned|looked out of the window].",
            "{h} had one more idea. {He} wanted to [jump over a puddle|carry ten plates at once|stand on {his} head on a chair]. {He} [counted to three|took a deep breath] and... splash! crash! {He} [fell right into the mud|landed in the flour|sat in a bucket of water]. Only {his} two eyes could be seen.",
            "It was very quiet. Then there was a small sound. Then a bigger one. {f} was laughing! {F_he} laughed [so hard that {f_he} had to sit down|until {f_his} tummy hurt|and could not stop]. [And {h} laughed too.|Soon everyone was laughing.]",
            '"[Thank you|I needed that|You are the funniest {hk} in the world]," said {f}. "Now let us get you clean." {close}',
        ],
    ),
}

DETAILS = [
    "A dog barked far away.",
    "A small bird was singing.",
    "The sky was blue.",
    "It was a quiet place.",
    "A bee flew by.",
    "The wind smelled of flowers.",
    "A leaf fell to the ground.",
    "Somewhere, a door closed.",
    "The clock struck three.",
    "A white cloud passed by.",
    "It was the middle of the week.",
    "The grass moved in the wind.",
    "Nobody said a word.",
    "That was how it always was.",
    "It was a little strange.",
    "It did not take long.",
]


def pronouns(girl: bool) -> dict[str, str]:
    if girl:
        return {"he": "she", "his": "her", "him": "her", "himself": "herself"}
    return {"he": "he", "his": "his", "him": "him", "himself": "himself"}


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" or noun.startswith("honest") else "a ") + noun


def choose(text: str, rng: random.Random) -> str:
    """Resolves [a|b|c] from the inside out."""
    inner = re.compile(r"\[([^\[\]]*)\]")
    while match := inner.search(text):
        text = text[: match.start()] + rng.choice(match.group(1).split("|")) + text[match.end() :]
    return text


def cast(rng: random.Random) -> dict[str, str]:
    """Values of the slots: a hero h, a friend f, things and places."""
    pick = rng.choice
    s: dict[str, str] = {}
    hero_girl, friend_girl, old_girl = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.5
    if rng.random() < 0.5:
        s["hk"], s["h"] = ("girl", pick(GIRLS)) if hero_girl else ("boy", pick(BOYS))
    else:
        s["hk"], s["h"] = pick(SMALL + LARGE), pick(PETS)
    others = [k for k in SMALL + LARGE if k != s["hk"]]
    s["fk"], s["f"] = pick(others), pick([n for n in PETS if n != s["h"]])
    s |= pronouns(hero_girl)
    s |= {"f_" + k: v for k, v in pronouns(friend_girl).items()}
    s |= {k[0].upper() + k[1:]: v[0].upper() + v[1:] for k, v in pronouns(hero_girl).items()}
    s["F_he"] = s["f_he"].capitalize()
    s["old"], s["oldhe"] = ("woman", "she") if old_girl else ("man", "he")
    s["Oldhe"] = s["oldhe"].capitalize()
    s["trait"], s["ftrait"] = rng.sample(TRAITS, 2)
    s["place"], s["toy"], s["findword"] = pick(PLACES), pick(TOYS), pick(FINDS)
    s["food"], s["fruits"] = pick(FOODS), pick(FRUITS)
    s["thing"], s["find"] = article(s["toy"]), article(s["findword"])
    s["thething"], s["Thething"] = "the " + s["toy"], "The " + s["toy"]
    s["bake"] = pick(["apple pie", "honey bread", "chocolate cake", "plum cake", "nut bread", "lemon cake", "pear pie"])
    s["horn"] = pick(["flute", "drum", "fiddle", "horn", "guitar"])
    s["DAYS1"] = pick(["one morning", "one sunny day", "one warm day", "one day in spring"])
    s["DAYS1C"] = pick(["One evening", "One summer day", "On the last day of the year", "One Sunday"])
    s["DAYS2"] = pick(["One night", "One dark night", "One cold night", "One summer night", "Late one night"])
    return s


def typed(request: str, rng: random.Random) -> str:
    """A request as people type it: often without its full stop or question mark, sometimes in small letters."""
    if rng.random() < 0.4:
        request = request.rstrip(".?!")
    if rng.random() < 0.25:
        request = request[0].lower() + request[1:] if rng.random() < 0.5 else request.lower()
    return request


def grammatical(text: str) -> str:
    """a / an before the word that came in, capitals at the start of sentences, no stray spaces."""
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    text = re.sub(r"\b([Aa]) (?=honest)", r"\1n ", text)
    text = re.sub(r" +(?=[ .?])", "", text)
    text = re.sub(r" ?\n\n ?", "\n\n", text)
    return text.strip()


def ask_for(form: str, plot: str, slots: dict[str, str], rng: random.Random) -> str:
    """A request in one of the forms of ASKS."""
    hero = f"{slots['trait']} {slots['hk']}"
    who = {"a": f"{article(hero)} named {slots['h']}", "kind": article(slots["hk"]), "trait_kind": article(hero)}
    ask = choose(form, rng).format(**who, friend=article(slots["fk"]), plot=plot.format_map(slots), **slots)
    return grammatical(ask)


def tell(rng: random.Random) -> tuple[str, str, dict[str, str]]:
    """One request, its story and the slots of its cast."""
    slots = cast(rng)
    request, paragraphs = PLOTS[rng.choice(sorted(PLOTS))]
    slots["close"] = choose(rng.choice(CLOSE), rng).format_map(slots)
    intro = rng.choice(INTRO[:8] if rng.random() < 0.5 else INTRO)
    parts = [choose(p, rng).format_map(slots) for p in [intro, *paragraphs]]
    parts = [p for p in parts if p.strip()]
    parts[1:-1] = [p + " " + rng.choice(DETAILS) if rng.random() < 0.12 else p for p in parts[1:-1]]
    if rng.random() < 0.6:  # the first event continues the first paragraph
        parts = [parts[0] + " " + parts[1], *parts[2:]]
    forms = [*ASKS, "Tell me a story with {thing} in it, about {a}."] if "thing" in request else ASKS
    ask = ask_for(rng.choice(forms), request, slots, rng)
    return ask, grammatical("\n\n".join(parts)), slots


def talk(seed: int, count: int) -> list[tuple[str, str]]:
    """Short questions and answers."""
    rng = random.Random(seed)
    pairs = [rng.choice(TALK) for _ in range(count)]
    return [(choose(q, rng), choose(a, rng)) for q, a in pairs]


def stories(seed: int, count: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    return [tell(rng)[:2] for _ in range(count)]


def many(seed: int, count: int, block: int = 5000) -> list[tuple[str, str]]:
    """The same on all cores: blocks of stories, each with its own seed, without repetitions."""
    blocks = [(seed * 1_000_003 + i, block) for i in range(-(-count // block))]
    with multiprocessing.Pool() as pool:
        told = [item for items in pool.starmap(stories, blocks) for item in items]
    return list(dict.fromkeys(told))[:count]


if __name__ == "__main__":
    for told in stories(1, 10):
        print(*told, sep="\n", end="\n\n")
