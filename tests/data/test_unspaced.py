"""Words of scripts without spaces, against texts that ICU's dictionaries cut into words, and of scripts with them."""

import pytest

from alignvec.data.confound import word_count
from alignvec.data.load import load_rows, shipped_file
from alignvec.data.unspaced import runs, words

# A stroke is where Intl.Segmenter of Chromium (ICU) ends a word.
CUT = {
    "zh": "如果|您|的|头痛|持续|超过|三天，|或者|伴|有|发热、|呕吐|和|视力|模糊，|请|尽快|去|医院|就|诊。",
    "ja": "頭痛|が|三日|以上|続く|場合|や、|発熱、|吐き気、|目|の|かすみ|を|伴う|場合|は、|早め|に|病院|を|受診|し|て",
    "th": "หาก|คุณ|ปวด|ศีรษะ|ติดต่อ|กัน|เกิน|สาม|วัน| หรือ|มี|ไข้| อาเจียน| และ|ตา|มัว|ร่วม|ด้วย| ควร|รีบ|ไป|พบ|แพทย์",
    "lo": "ຖ້າ|ທ່ານ|ເຈັບຫົວ|ຕິດຕໍ່|ກັນ|ເກີນ|ສາມ|ມື້| ຫຼື|ມີ|ໄຂ້| ແລະ|ຮາກ| ຄວນ",
    "km": "ឬ|មាន|គ្រុន|ក្តៅ| និង|ក្អួត| អ្នក|គួរតែ|ទៅជួប|គ្រូ",
    "my": "သင်|ခေါင်းကိုက်ခြင်း| သုံး|ရက်|ထက်|ပို|ပါ|က| သို့မဟုတ်| ဖျားနာ|ပါ|က| ဆေးရုံ|သို့",
}


@pytest.mark.parametrize("code", CUT)
def test_scripts_without_spaces_have_about_as_many_words_as_a_dictionary_finds(code: str) -> None:
    text = CUT[code].replace("|", "")
    assert len(text.split()) < 0.6 * len(CUT[code].split("|"))
    assert word_count(text) == pytest.approx(len(CUT[code].split("|")), rel=0.3)


def test_a_run_is_cut_by_two_letters_or_three_and_its_neighbours_are_words() -> None:
    assert words("每天用500mg（口服）阿司匹林。 OK!") == ["每天", "用", "500mg（", "口服", "阿司", "匹林", "OK!"]
    assert words("กินยาค่ะ 2 เม็ด") == ["กนย", "าคะ", "2", "เมด"]  # without signs above and below
    assert words("。！ ") == ["。！"]
    assert list(runs("用5mg ยา。服")) == [("用", 2), ("ยา", 3), ("服", 2)]


@pytest.mark.parametrize(
    "text",
    ["", "  One two-three\nfour. ", "Zażółć gęślą - jaźń!", "두통이 심해요", "सिर में दर्द है", "أشعر بصداع شديد", "a … b"],
)
def test_texts_with_spaces_are_cut_at_them(text: str) -> None:
    assert words(text) == text.split()


@pytest.mark.parametrize("domain", ["medical", "legal", "financial", "general"])
def test_the_shipped_texts_are_cut_at_spaces(domain: str) -> None:
    for row in load_rows(shipped_file(domain)):
        for text in (row.persona, row.query, *row.responses.values()):
            assert words(text) == text.split()
