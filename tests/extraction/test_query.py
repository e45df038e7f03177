import pytest

from tse_refine.errors import InputError
from tse_refine.extraction.query import parse_query

CLASSES = ["dog", "car_horn", "Siren", "speech, male", "Türklingel"]


@pytest.mark.parametrize(
    ("words", "query"),
    [
        (["dog"], ("dog",)),
        ("dog", ("dog",)),
        (["Car Horn", "SIREN"], ("car_horn", "Siren")),
        (["car-horn,siren"], ("car_horn", "Siren")),
        (["siren, dog", "dog"], ("Siren", "dog")),
        (["speech, male"], ("speech, male",)),
        (["TÜRKLINGEL"], ("Türklingel",)),
        (["all"], tuple(CLASSES)),
        (["dog", "All"], ("dog", "car_horn", "Siren", "speech, male", "Türklingel")),
        ([" dog ", "", ","], ("dog",)),
    ],
)
def test_words_name_classes_in_any_usual_spelling(words, query):
    assert parse_query(words, CLASSES) == query


def test_what_is_excluded_is_left_out():
    assert parse_query(["all"], CLASSES, excluded=["dog, SIREN", "speech, male"]) == ("car_horn", "Türklingel")
    assert parse_query(["dog"], CLASSES, excluded=["siren"]) == ("dog",)


@pytest.mark.parametrize(
    ("words", "excluded", "said"),
    [
        (["dgo"], [], "query: 'dgo' is no class .* did you mean 'dog'"),
        (["dog"], ["sirens"], "except: 'sirens' is no class .* did you mean 'Siren'"),
        (["xylophone"], [], "known are: dog, car_horn"),
        ([], [], "query is empty.*dog, car_horn"),
        (None, [], "query is None; a name of a class or a list of names is expected"),
        ([1], [], "query: 1 is no text; a name"),
        (["dog"], 7, "except is 7; a name"),
        (["", " , "], [], "query is empty"),
        (["all"], ["all"], "except leaves nothing"),
        (["dog\nsiren"], [], r"'dog\\nsiren' is no class"),
    ],
)
def test_what_names_no_class_is_refused(words, excluded, said):
    with pytest.raises(InputError, match=said) as refusal:
        parse_query(words, CLASSES, excluded)
    assert "\n" not in str(refusal.value)


def test_a_word_for_two_classes_is_refused_unless_it_is_one_of_them():
    classes = ["car_horn", "Car horn"]
    with pytest.raises(InputError, match="'CAR HORN' can mean 'car_horn' or 'Car horn'"):
        parse_query("CAR HORN", classes)
    assert parse_query("car_horn", classes) == ("car_horn",)


def test_a_class_may_be_called_all():
    assert parse_query("all", ["all", "dog"]) == ("all",)
