import itertools

import numpy as np
import pytest

from emoc_tf.analysis.families import FAMILIES
from emoc_tf.report import drawing

# Those that published figures have: they stay as they are.
PUBLISHED = {
    "random": ("#000000", "o", "--"),
    "min": ("#56B4E9", "v", "-"),
    "min-literal": ("#999999", "P", ":"),
    "1-vs-2": ("#009E73", "^", "-"),
    "max": ("#E69F00", "s", "-."),
    "emoc": ("#D55E00", "D", "-"),
    "emoc-expected": ("#CC79A7", "X", "-"),
    "learned": ("#0072B2", "h", "-"),
}
ALL = [name for names in FAMILIES.values() for name in names]
# Linear RGB as people see it who lack a kind of cone (Machado et al., 2009, severity 1).
EYES = {
    "all cones": np.eye(3),
    "no M cones": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no L cones": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no S cones": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def lab(colour, eye="all cones"):
    """CIE L*a*b* of `#rrggbb`; L* is its lightness in grey."""
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(EYES[eye]) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = to_xyz @ seen / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_published_styles_stay():
    assert {name: drawing.style(name, ALL) for name in PUBLISHED} == PUBLISHED


def test_styles_do_not_depend_on_who_is_shown():
    for name in ALL:
        assert drawing.style(name, [name]) == drawing.style(name, [*ALL, "mine", f"{name}:x=1"])


def test_all_styles_differ_from_each_other_and_from_those_of_variants():
    variants = [f"emoc:references={i}" for i in range(60)]
    shown = [*ALL, *variants]
    assert len({drawing.style(name, shown) for name in shown}) == len(shown)


def test_a_variant_that_stands_alone_looks_like_its_policy():
    shown = ["random", "emoc:references=1000", "herding:images=2000", "mine:x=1", "badge"]
    styles = [drawing.style(name, shown) for name in shown]
    assert styles[:3] == [PUBLISHED["random"], PUBLISHED["emoc"], drawing.style("herding", ALL)]
    assert len(set(styles)) == len(styles)
    two = [*shown, "emoc"]
    styles = [drawing.style(name, two) for name in two]
    assert len(set(styles)) == len(styles) and styles[-1] == PUBLISHED["emoc"]


def test_long_names_go_on_below_or_are_cut():
    long = "lookahead:learning_rate=0.01:iterations=250:references=256"
    lines = "lookahead:learning_rate=0.01\n:iterations=250:references=256"
    assert drawing.named(long) == lines
    assert drawing.named("emoc:references=1000") == "emoc:references=1000"
    assert drawing.named(":") == ":"
    assert drawing.width_of(["ab", lines]) == 30 and drawing.width_of([]) == 1
    assert drawing.cut(long) == "lookahead:learning_rate=0.01:…"
    assert drawing.cut("x" * 30) == "x" * 30
    assert drawing.named("mine:a=$") == drawing.cut("mine:a=$") == r"mine:a=\$"


@pytest.mark.parametrize("family", FAMILIES)
def test_policies_of_a_panel_are_apart_in_every_eye_and_in_grey(family):
    members = [*FAMILIES[family], "random", "emoc"]
    for one, other in itertools.combinations(dict.fromkeys(members), 2):
        if one in PUBLISHED and other in PUBLISHED:
            continue
        (colour, marker, dashes), (colour_2, marker_2, dashes_2) = (
            drawing.style(name, ALL) for name in (one, other)
        )
        assert marker != marker_2, (one, other)
        for eye in EYES:
            assert np.linalg.norm(lab(colour, eye) - lab(colour_2, eye)) > 20, (one, other, eye)
        in_grey = abs(lab(colour)[0] - lab(colour_2)[0])
        assert in_grey > 15 or dashes != dashes_2, (one, other)
        # Seen on white pages and on dark ones, where black turns white.
        assert 35 < lab(colour)[0] < 75 or one in PUBLISHED


@pytest.mark.parametrize("eye", EYES)
def test_policies_of_all_published_comparisons_are_apart_from_the_best_rival(eye):
    seen = lab(drawing.style("herding", ALL)[0], eye)
    for name in ("random", "emoc", "1-vs-2", "novel", "badge"):
        assert np.linalg.norm(lab(drawing.style(name, ALL)[0], eye) - seen) > 20, name


@pytest.mark.parametrize("count", [2, 8, 21, 40])
def test_points_of_a_place_stay_nearer_to_it_than_to_the_next(count):
    agents = [f"policy-{i}" for i in range(count)]

    def draw(axes):
        for agent in agents:
            drawing.points(axes, agent, agents, [0, 1], [0.5, 0.5], [0.1, 0.1])

    axes = drawing.panel(draw).axes[0]
    places = np.concatenate([container.lines[0].get_xdata() for container in axes.containers])
    assert len(set(places)) == 2 * count
    assert sorted(np.round(places)) == [0] * count + [1] * count
