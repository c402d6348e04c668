import pytest

from emoc_tf.annotation import names


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Cat", "cat"), ("cats", "cat"), ("cat", "cats"), ("foxes", "fox"), ("pony", "ponies"),
        ("ponies", "pony"), ("zerbra", "zebra"), ("zebre", "zebra"), ("zebr", "zebra"),
        ("zebras", "zebra"), ("zerba", "zebra"), ("sea lion", "sea_lion"), ("sealion", "sea-lion"),
        ("Sea Lions", "sea lion"), ("cafe\u0301", "caf\u00e9"), ("STRASSE", "stra\u00dfe"),
        ("hat", "cat"), ("ze", "zebra"), ("sea", "sea lion"), ("Sea l", "sea lion"),
    ],
)  # fmt: skip
def test_a_name_that_is_nearly_a_known_one(name, known):
    assert names.near(name, ["owl", known]) == known


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("cat", "cat"), ("dog", "cat"), ("room 1", "room 2"), ("room 1", "room 12"), ("1", "7"),
        ("a", "b"), ("ox", "fox"), ("horse", "house cat"), ("zebra", "zeb"), ("lion", "loin fish"),
        ("type 1", "type 1s"[:-1]), ("is", "i"[:0] + "was"),
    ],
)  # fmt: skip
def test_names_that_are_others(name, known):
    assert names.near(name, [known]) is None


def test_spelling_goes_before_one_letter():
    assert names.near("Cart", ["card", "cart"]) == "cart"


def test_tidy():
    assert names.tidy("  sea \t lion ") == "sea lion"
    assert names.tidy("cafe\u0301") == "caf\u00e9"


@pytest.mark.parametrize(
    "text",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f469\u200d\U0001f52c",
        "\u0915\u094d\u200d\u0937",
    ],
)
def test_joiners_belong_to_words_and_pictures(text):
    """Persian and Hindi cannot be written without them, nor can many emoji."""
    assert names.tidy(f" {text}\u200c ") == text


@pytest.mark.parametrize(
    "text", ["", "   ", "x" * 81, "a\0b", "a\u202eb", "\ud800", "\u200d", 5, None]
)
def test_what_is_no_name(text):
    with pytest.raises(ValueError, match="name: expected"):
        names.tidy(text)
