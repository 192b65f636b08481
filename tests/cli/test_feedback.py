"""Words and text that the model does not read are always reported."""


def test_words_digits_and_emoji_that_the_embedded_model_never_learned_are_told(vsf):
    code, _, err = vsf(
        "generate", "a red car 🚗 on snow, 42 flumadiddle!", "-n", "wheels 🛞", "--steps", 2, "-o", "a.png"
    )
    assert code == 0
    assert "the model tiny does not know: 🚗, 42, flumadiddle, 🛞." in err


def test_punctuation_and_capitals_are_nothing_unknown(vsf):
    assert vsf("generate", "A red car, on snow.", "-n", "wheels", "--steps", 2, "-o", "a.png")[2] == ""


def test_a_prompt_and_a_negative_of_ten_thousand_characters_are_told_to_be_cut_off(vsf):
    words = ("a red car on snow " * 555, "-n", "wheels " * 1500, "--steps", 2, "-o", "a.png")
    code, _, err = vsf("generate", *words)
    assert code == 0
    assert 'is too long: the model does not read "car on snow a red car' in err
    assert 'is too long: the model does not read "wheels wheels' in err
    assert (err.count("note: "), "Warning" in err) == (2, False)


def test_a_prompt_that_is_too_long_is_told_for_other_models(draw, vsf, folder):
    words = ("--model", folder, "--size", 16, "--steps", 1, "-o", "a.png")
    code, _, err = vsf("generate", "a red car " * 40, *words)
    assert code == 0
    assert "is too long: the model does not read " in err
    assert draw("-o", "b.png")[2] == ""


def test_a_word_that_no_tokenizer_knows_is_told_for_other_models(vsf, folder):
    words = ("--model", folder, "--size", 16, "--steps", 1, "-n", "wheels \N{OCTOPUS}", "-o", "a.png")
    code, _, err = vsf("generate", "a red car", *words)
    assert code == 0
    assert 'the model cannot read "\N{OCTOPUS}" in "wheels \N{OCTOPUS}"' in err
    assert (err.count("note: "), "Warning" in err) == (1, False)


def test_a_comparison_tells_it_once(vsf):
    err = vsf("compare", "a red flumadiddle", "-n", "wheels", "--steps", 2, "--methods", "none,vsf,nag", "-o", "a.png")[
        2
    ]
    assert err.count("does not know: flumadiddle") == 1
