"""Stories written by hand. Two of them stand before every request, so that the teacher sees what is wanted."""

EXAMPLES: list[tuple[str, str]] = [
    (
        "Write a short story for young children about a small bear named Bruno who loses a red ball and looks for it.",
        "Once upon a time, there was a small bear named Bruno. Bruno had a red ball. He loved to kick it down the hill.\n\n"
        "One day, the ball rolled into the forest. Bruno looked behind the trees. He looked under the bushes. The ball was "
        "not there. Bruno sat down and began to cry.\n\n"
        'A little mouse heard him. "Why are you crying?" asked the mouse.\n\n'
        '"I lost my red ball," said Bruno.\n\n'
        '"I am small," said the mouse. "I can look in small places." She ran into a hole under an old tree. Soon she '
        "came out again and pushed the red ball in front of her.\n\n"
        '"Thank you!" said Bruno. He was very happy. From that day on, Bruno and the mouse played with the ball together.',
    ),
    (
        "Tell me a short, gentle story about a shy girl named Anna. It happens by the sea.",
        "Anna was a shy girl who lived by the sea. Every day she walked on the beach and picked up shells. She wanted a "
        "friend, but she was afraid to talk to the other children.\n\n"
        'One morning, a boy was sitting on the sand. He was building a castle, but it kept falling down. "The sand is too '
        'dry," Anna said quietly.\n\n'
        'The boy looked up and smiled. "Can you help me?" he asked.\n\n'
        "Anna ran to the water and filled her bucket. They made the sand wet and built a tall castle. Anna put her best "
        "shell on the top.\n\n"
        '"It is the best castle on the beach," said the boy. Anna smiled. She was not afraid any more. Now she had a friend.',
    ),
    (
        "Write a short story about a hungry fox and a goat named Clover. They talk to each other.",
        "One evening, a hungry fox came to the farm. He saw a goat in the garden. The goat was eating a big cabbage.\n\n"
        '"Good evening," said the fox. "I have not eaten all day."\n\n'
        '"I am Clover," said the goat. "You may have some of my cabbage."\n\n'
        'The fox did not like cabbage, but he was too hungry to say no. He took a small bite. Then he took a big bite. "It '
        'is not so bad," he said.\n\n'
        'Clover laughed. "Come back tomorrow. The farmer will bring carrots."\n\n'
        "The next day the fox came back. He brought a basket of berries from the forest. They sat in the grass and shared "
        "the carrots and the berries. The fox was not hungry any more.",
    ),
    (
        "Please tell a bedtime story in a small village, with an old clock in it.",
        "In a small village there was an old clock. It stood in the tower and told everyone the time. One night, the clock "
        "stopped. The baker did not wake up. There was no bread in the morning, and the children were late for school.\n\n"
        "Only Tom, the baker's son, went up to the tower. He climbed all the stairs with a candle in his hand. Inside the "
        "clock he found a bird's nest. A mother bird was sleeping there with three little eggs.\n\n"
        "Tom did not want to wake her. He moved the nest very slowly to a warm corner. Then he turned the big wheel. Tick, "
        "tock, said the clock.\n\n"
        "That night, the whole village heard the clock again. The bird heard it too, and she slept well. Good night.",
    ),
    (
        "Write a short funny story about a lazy cat named Socks for a child. Use the words soup, window, jump.",
        'Socks was a lazy cat. She slept in the morning, and she slept in the afternoon. "You never do anything," said the '
        "dog.\n\n"
        "One day, Grandmother made a pot of soup. She put it near the window and went out to the garden. Socks smelled the "
        "soup. It smelled like fish! She opened one eye. Then she opened the other eye.\n\n"
        '"Do not jump on the table," said the dog.\n\n'
        "Socks jumped. But she jumped too far, and she fell right out of the window into the flowers.\n\n"
        'Grandmother laughed and laughed. She gave Socks a little bowl of soup. "Now I have jumped today," said Socks. "I '
        'need a nap." And she went back to sleep.',
    ),
    (
        "Write a short story for young children about a brave boy named Leo who is afraid of the dark.",
        "Leo was a brave boy. He was not afraid of dogs, and he was not afraid of storms. But Leo was afraid of the dark. "
        "Every night he asked his mother to leave the light on.\n\n"
        "One night, the light went out. The whole house was dark. Leo pulled the blanket over his head. Then he heard a small "
        "sound. His little sister was crying.\n\n"
        'Leo took a deep breath. He got out of bed and walked slowly to her room. He held her hand. "Do not be afraid," he '
        'said. "Look out of the window."\n\n'
        'Outside, the sky was full of stars. "They are so pretty," said his sister.\n\n'
        '"We can only see them when it is dark," said Leo. After that night, he did not need the light any more.',
    ),
    (
        "Tell me a short, happy story about a curious robot named Pip. It happens in a garden full of flowers.",
        "Pip was a curious robot. He lived in a garden full of flowers. Every day he watered the flowers and counted them. "
        "There were one hundred flowers in the garden.\n\n"
        'One morning, Pip counted again. Now there were one hundred and one! "Where did you come from?" he asked the new '
        "flower. The flower did not answer. It shook a little, and then it flew away.\n\n"
        "It was not a flower at all. It was a yellow butterfly.\n\n"
        '"Please come back!" called Pip. The butterfly came back and sat on his nose. Pip laughed. It was soft and it '
        "tickled.\n\n"
        "From then on, the butterfly came every morning. Pip always counted one hundred flowers and one friend.",
    ),
    (
        "Write a short story about an old sailor named Hugo and a whale named Pearl. They talk to each other. Hugo crosses "
        "the sea in a storm.",
        "An old sailor named Hugo had a small blue boat. One day a storm came. The waves were as tall as houses. The wind "
        "broke his sail, and the boat could not move.\n\n"
        '"Help!" called Hugo. A big whale came up beside the boat.\n\n'
        '"I am Pearl," said the whale. "Throw me your rope."\n\n'
        "Hugo threw the rope. Pearl took it in her mouth and pulled the boat through the waves. They went on all night. In "
        "the morning, they saw the land.\n\n"
        '"How can I thank you?" asked Hugo.\n\n'
        '"Sing me a song," said Pearl. "It is quiet under the sea."\n\n'
        "So Hugo sang every song he knew. And each summer he sailed out again to sing for his friend.",
    ),
]
