"""What the corpus knows of each script: a sentence, ranges of letters, of marks, and its digits."""

from typing import NamedTuple


class Script(NamedTuple):
    sentence: str
    letters: list[tuple[int, int]]
    marks: list[tuple[int, int]]
    zero: int  # its digit nought


NO_MARKS: list[tuple[int, int]] = []
COMBINING = [(0x300, 0x30F), (0x323, 0x328)]

# The sentences are article 1 of the Universal Declaration of Human Rights, or its beginning.
SCRIPTS: dict[str, Script] = {
    "english": Script(
        "All human beings are born free and equal in dignity and rights. They are endowed with reason "
        "and conscience and should act towards one another in a spirit of brotherhood.",
        [(0x61, 0x7A), (0x41, 0x5A)], NO_MARKS, 0x30),
    "german": Script(
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und "
        "Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen. Größe, Straße, Äpfel.",
        [(0x61, 0x7A), (0xC0, 0xD6), (0xDF, 0xF6)], COMBINING, 0x30),
    "french": Script(
        "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de "
        "raison et de conscience ; c’est-à-dire : « l’œuvre », n’est-ce pas ?",
        [(0x61, 0x7A), (0xE0, 0xFF), (0x152, 0x153)], COMBINING, 0x30),
    "spanish": Script(
        "Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Dónde está el niño? "
        "¡Mañana! Comportarse fraternalmente los unos con los otros.",
        [(0x61, 0x7A), (0xE1, 0xFA)], COMBINING, 0x30),
    "polish": Script(
        "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Zażółć gęślą jaźń.",
        [(0x61, 0x7A), (0x104, 0x107), (0x118, 0x119), (0x141, 0x144), (0x15A, 0x15B), (0x179, 0x17C)],
        COMBINING, 0x30),
    "turkish": Script(
        "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İstanbul'da ılık bir akşam.",
        [(0x61, 0x7A), (0x11E, 0x11F), (0x130, 0x131), (0x15E, 0x15F)], COMBINING, 0x30),
    "vietnamese": Script(
        "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
        [(0x61, 0x7A), (0x1EA0, 0x1EF9), (0x1A0, 0x1B0)], COMBINING, 0x30),
    "greek": Script(
        "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα· ᾧ ἀρχή.",
        [(0x391, 0x3A1), (0x3B1, 0x3C9), (0x1F00, 0x1F15)], COMBINING, 0x30),
    "russian": Script(
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и "
        "совестью и должны поступать в отношении друг друга в духе братства. Съешь ещё ёлку.",
        [(0x410, 0x44F), (0x451, 0x451)], [(0x301, 0x301), (0x483, 0x487)], 0x30),
    "ukrainian": Script(
        "Всі люди народжуються вільними і рівними у своїй гідності та правах. Ґанок, їжак, є.",
        [(0x430, 0x44F), (0x454, 0x457), (0x490, 0x491)], NO_MARKS, 0x30),
    "armenian": Script(
        "Բոլոր մարդիկ ծնվում են ազատ ու հավասար՝ իրենց արժանապատվությամբ և իրավունքներով։",
        [(0x531, 0x556), (0x561, 0x587)], NO_MARKS, 0x30),
    "georgian": Script(
        "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
        [(0x10D0, 0x10FA), (0x1C90, 0x1CBA)], NO_MARKS, 0x30),
    "hebrew": Script(
        "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. בְּרֵאשִׁית בָּרָא.",
        [(0x5D0, 0x5EA)], [(0x5B0, 0x5BC), (0x5C1, 0x5C2)], 0x30),
    "arabic": Script(
        "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق، وقد وهبوا عقلًا وضميرًا. ﷺ ٣٫١٤٪",
        [(0x621, 0x63A), (0x641, 0x64A)], [(0x64B, 0x652)], 0x660),
    "persian": Script(
        "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند.",
        [(0x627, 0x63A), (0x6A9, 0x6AF), (0x6CC, 0x6CC)], [(0x200C, 0x200C)], 0x6F0),
    "urdu": Script(
        "تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔",
        [(0x627, 0x63A), (0x679, 0x67E), (0x6BA, 0x6BE), (0x6D2, 0x6D2)], [(0x64B, 0x652)], 0x6F0),
    "syriac": Script("ܟܠ ܒܪܢܫܐ ܒܪܝܠܗ ܚܐܪܐ ܘܒܪܒܪ ܓܘ ܐܝܩܪܐ ܘܙܕܩܐ.", [(0x710, 0x72C)], [(0x730, 0x74A)], 0x30),
    "devanagari": Script(
        "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। क्ष्म्य १२३",
        [(0x905, 0x939)], [(0x93E, 0x94D), (0x901, 0x903)], 0x966),
    "bengali": Script(
        "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে। ৪৫৬",
        [(0x985, 0x98C), (0x995, 0x9A8)], [(0x9BE, 0x9C4), (0x9CD, 0x9CD)], 0x9E6),
    "gurmukhi": Script(
        "ਸਾਰਾ ਮਨੁੱਖੀ ਪਰਿਵਾਰ ਆਪਣੀ ਮਹਿਮਾ, ਸ਼ਾਨ ਅਤੇ ਹੱਕਾਂ ਦੇ ਪੱਖੋਂ ਜਨਮ ਤੋਂ ਹੀ ਆਜ਼ਾਦ ਹੈ।",
        [(0xA05, 0xA0A), (0xA15, 0xA28)], [(0xA3E, 0xA42), (0xA70, 0xA71)], 0xA66),
    "gujarati": Script(
        "પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો જન્મથી સ્વતંત્ર અને સમાન હોય છે.",
        [(0xA85, 0xA8B), (0xA95, 0xAA8)], [(0xABE, 0xAC5), (0xACD, 0xACD)], 0xAE6),
    "oriya": Script("ସମସ୍ତ ମନୁଷ୍ୟ ଜନ୍ମକାଳରୁ ସ୍ୱାଧୀନ ଏବଂ ମର୍ଯ୍ୟାଦା ଓ ଅଧିକାରରେ ସମାନ।",
        [(0xB05, 0xB0C), (0xB15, 0xB28)], [(0xB3E, 0xB43), (0xB4D, 0xB4D)], 0xB66),
    "tamil": Script(
        "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்; அவர்கள் மதிப்பிலும் உரிமைகளிலும் சமமானவர்கள்.",
        [(0xB85, 0xB8A), (0xBAE, 0xBB9)], [(0xBBE, 0xBC2), (0xBCD, 0xBCD)], 0xBE6),
    "telugu": Script(
        "ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును సమానులును నగుదురు.",
        [(0xC05, 0xC0C), (0xC15, 0xC28)], [(0xC3E, 0xC44), (0xC4D, 0xC4D)], 0xC66),
    "kannada": Script(
        "ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ ಜನಿಸಿದ್ದಾರೆ ಹಾಗೂ ಘನತೆ ಮತ್ತು ಹಕ್ಕುಗಳಲ್ಲಿ ಸಮಾನರಾಗಿದ್ದಾರೆ.",
        [(0xC85, 0xC8C), (0xC95, 0xCA8)], [(0xCBE, 0xCC4), (0xCCD, 0xCCD)], 0xCE6),
    "malayalam": Script(
        "മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും സ്വാതന്ത്ര്യത്തോടുംകൂടി ജനിച്ചവരാണ്.",
        [(0xD05, 0xD0C), (0xD15, 0xD28)], [(0xD3E, 0xD44), (0xD4D, 0xD4D)], 0xD66),
    "sinhala": Script("සියලු මනුෂ්‍යයෝ නිදහස්ව උපත ලබා ඇත. ගරුත්වයෙන් හා අයිතිවාසිකම්වලින් සමාන වෙති.",
        [(0xD85, 0xD96), (0xD9A, 0xDB1)], [(0xDCF, 0xDD4), (0x200D, 0x200D)], 0xDE6),
    "thai": Script(
        "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ๑๒๓ ฿",
        [(0xE01, 0xE2E), (0xE40, 0xE44)], [(0xE31, 0xE31), (0xE34, 0xE3A), (0xE47, 0xE4E)], 0xE50),
    "lao": Script("ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ, ສິດທິ, ເສລີພາບແລະຄວາມສະເໝີພາບເທົ່າທຽມກັນ.",
        [(0xE94, 0xE97), (0xEC0, 0xEC4)], [(0xEB4, 0xEB9), (0xEC8, 0xECD)], 0xED0),
    "tibetan": Script("འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང༌། ཐོབ་ཐངགི་རང་དབང་འདྲ་མཉམ་དུ་ཡོད་ལ།",
        [(0xF40, 0xF47), (0xF49, 0xF6C)], [(0xF71, 0xF7E), (0xF90, 0xF97)], 0xF20),
    "burmese": Script("လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် လည်းကောင်း မွေးဖွားလာသူများ ဖြစ်သည်။",
        [(0x1000, 0x102A)], [(0x102B, 0x103E)], 0x1040),
    "khmer": Script("មនុស្សទាំងអស់កើតមកមានសេរីភាព និងភាពស្មើៗគ្នាក្នុងសេចក្ដីថ្លៃថ្នូរ និងសិទ្ធិ ។",
        [(0x1780, 0x17A2)], [(0x17B6, 0x17D3)], 0x17E0),
    "ethiopic": Script("የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።", [(0x1200, 0x1246), (0x1260, 0x1286)], NO_MARKS, 0x30),
    "cherokee": Script("ᏂᎦᏓ ᎠᏂᏴᏫ ᏂᎨᎫᏓᎸᎾ ᎠᎴ ᎤᏂᏠᏱ ᎤᎾᏕᎿ ᏚᏳᎧᏛ ᎨᏒᎢ.", [(0x13A0, 0x13F4), (0xAB70, 0xABBF)], NO_MARKS, 0x30),
    "mongolian": Script("ᠬᠦᠮᠦᠨ ᠪᠦᠷ ᠲᠥᠷᠥᠵᠦ ᠮᠡᠨᠳᠡᠯᠡᠬᠦ ᠡᠷᠬᠡ ᠴᠢᠯᠥᠭᠡ ᠲᠡᠢ᠃ Хүн бүр төрж мэндлэхдээ эрх чөлөөтэй.",
        [(0x1820, 0x1842)], [(0x180B, 0x180E)], 0x1810),
    "chinese": Script("人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。《繁體字》「鐵路」㐀𠀀𪜶",
        [(0x4E00, 0x9FA5), (0x3400, 0x3410), (0x20000, 0x20040)], NO_MARKS, 0xFF10),
    "japanese": Script("すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。カタカナ・ｶﾅ「コーヒー」々〆",
        [(0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x4F00)], [(0x3099, 0x309A), (0x30FC, 0x30FC)], 0xFF10),
    "korean": Script("모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 한글 ㄱㄴㄷ 각",
        [(0xAC00, 0xD7A3), (0x1100, 0x1112)], [(0x1161, 0x1175)], 0x30),
    "nko": Script("ߊߘߊߡߊߘߋ߲ ߠߎ߬ ߓߍ߯ ߡߏߦߌ߫ ߟߊ߫ ߤߐ߬ߙߐ߲߬ߧߊ߬ ߘߐ߫", [(0x7CA, 0x7EA)], [(0x7EB, 0x7F3)], 0x7C0),
    "tifinagh": Script("ⵉⵎⴷⴰⵏⴻⵏ, ⴰⴽⴽⴻⵏ ⵎⴰ ⵍⵍⴰⵏ ⵜⵜⵍⴰⵍⴻⵏ ⴷ ⵉⵍⴻⵍⵍⵉⵢⴻⵏ.", [(0x2D30, 0x2D67)], [(0x2D7F, 0x2D7F)], 0x30),
    "gothic": Script("𐌰𐌻𐌻𐌰𐌹 𐌼𐌰𐌽𐌽𐌰 𐍆𐍂𐌴𐌹𐌷𐌰𐌻𐍃", [(0x10330, 0x10340)], NO_MARKS, 0x30),
    "mathematical": Script("∀ε>0 ∃δ>0: |x−a|<δ ⇒ |f(x)−f(a)|<ε; ∑ᵢ₌₁ⁿ i² = n(n+1)(2n+1)/6 ≈ ⅓n³, √2∉ℚ, 𝔸𝓑𝕏",
        [(0x1D400, 0x1D450), (0x2190, 0x2200), (0x2202, 0x2240)], [(0x20D0, 0x20D6)], 0x1D7CE),
}  # fmt: skip
