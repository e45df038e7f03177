import pytest

from tse_refine.errors import InputError
from tse_refine.extraction.query import parse_queries, parse_query

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


def test_excluded_classes_are_left_out():
    assert parse_query(["all"], CLASSES, excluded=["dog, SIREN", "speech, male"]) == ("car_horn", "Türklingel")
    assert parse_query(["dog"], CLASSES, excluded=["siren"]) == ("dog",)


@pytest.mark.parametrize(
    ("words", "excluded", "message"),
    [
        (["dgo"], [], "query: 'dgo' is not a class .* did you mean 'dog'"),
        (["dog"], ["sirens"], "except: 'sirens' is not a class .* did you mean 'Siren'"),
        (["xylophone"], [], "known are: dog, car_horn"),
        ([], [], "query is empty.*dog, car_horn"),
        (None, [], "query is None; a name of a class or a list of names is expected"),
        ([1], [], "query: 1 is not text; a name"),
        (["dog"], 7, "except is 7; a name"),
        (["", " , "], [], "query is empty"),
        (["all"], ["all"], "except leaves nothing"),
        (["dog\nsiren"], [], r"'dog\\nsiren' is not a class"),
    ],
)
def test_words_that_are_not_classes_are_rejected(words, excluded, message):
    with pytest.raises(InputError, match=message) as error:
        parse_query(words, CLASSES, excluded)
    assert "\n" not in str(error.value)


def test_a_word_for_two_classes_is_rejected_unless_it_is_the_exact_name_of_one():
    classes = ["car_horn", "Car horn"]
    with pytest.raises(InputError, match="'CAR HORN' can mean 'car_horn' or 'Car horn'"):
        parse_query("CAR HORN", classes)
    assert parse_query("car_horn", classes) == ("car_horn",)


def test_a_class_of_an_old_checkpoint_may_be_called_all():
    assert parse_query("all", ["all", "dog"]) == ("all",)


ALIASES = {"Siren": ("Alarm", "blue light"), "dog": ("Bark",), "car_horn": ("bark!", "dog")}


@pytest.mark.parametrize(
    ("words", "query"),
    [
        ("alarm", ("Siren",)),
        ("Blue-light, bark", ("Siren", "dog")),
        (["siren", "alarm"], ("Siren",)),
        ("dog", ("dog",)),  # the name of a class goes before an alias of another
    ],
)
def test_an_alias_names_its_class_in_any_usual_spelling(words, query):
    assert parse_query(words, CLASSES, aliases=ALIASES) == query
    assert parse_queries([words], CLASSES, ALIASES) == [query]


def test_an_alias_leaves_its_class_out_and_is_proposed_for_a_misspelt_word():
    assert parse_query("dog, siren", CLASSES, "ALARM", ALIASES) == ("dog",)
    with pytest.raises(InputError, match=r"query: 'alrm' is not a class .* did you mean 'Alarm'"):
        parse_query("alrm", CLASSES, aliases=ALIASES)


def test_an_alias_of_two_classes_in_a_foreign_checkpoint_is_rejected():
    with pytest.raises(InputError, match="'pet' can mean 'dog' or 'Siren'"):
        parse_query("pet", CLASSES, aliases={"dog": ("pet",), "Siren": ("Pet",)})


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([], r"queries is empty; at least one query is expected, such as \['dog'\]"),
        ("dog", "queries is 'dog'; a list of queries is expected"),
        (None, "queries is None; a list of queries is expected"),
        ([("dgo",)], "did you mean 'dog'"),
        ([("dog",), ()], "query is empty"),
    ],
)
def test_several_queries_are_a_list_of_one_or_more(queries, message):
    with pytest.raises(InputError, match=message):
        parse_queries(queries, CLASSES)


def test_unicode_forms_of_a_name_are_one_name():
    assert parse_query("Tu\u0308r", ["T\u00fcr", "dog"]) == ("T\u00fcr",)
    assert parse_query("T\u00fcr", ["Tu\u0308r", "dog"]) == ("Tu\u0308r",)
    assert parse_query("tu\u0308r", ["T\u00fcr", "dog"]) == ("T\u00fcr",)
