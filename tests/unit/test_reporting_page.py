"""Structure, accessibility, security policy and size limits of the page."""

import base64
import hashlib
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from neftune_cli.reporting.checklist.document import checklist, checklist_markdown
from neftune_cli.reporting.checklist.files import RunFiles
from neftune_cli.reporting.page.chapter import PageContent
from neftune_cli.reporting.page.report import MOST_BYTES, report_page
from tests.html_tree import Element, read
from tests.page_contents import ALPHAS, PLOT, comparison, content, generation, responses

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


@pytest.fixture(scope="module")
def html() -> str:
    return report_page([content()])


@pytest.fixture(scope="module")
def page(html: str) -> Element:
    return read(html)


def test_section_order(page: Element) -> None:
    assert [next(section.all("h2")).text for section in page.all("section")] == [
        "Decision",
        "Best arm, measured on data that were not used to select it",
        "Comparison with early stopping",
        "All metrics",
        "Plots",
        "Claims of the paper",
        "Responses side by side",
        "Methods",
        "Checklist for papers",
        "Reproduce",
    ]


def test_page_contains_recipe_manifest_digest_and_command(page: Element) -> None:
    digest = comparison().manifest_digest
    metas = {meta.attributes.get("name"): meta.attributes.get("content") for meta in page.all("meta")}

    assert metas["neftune-manifest"] == f"sha256:{digest}"
    assert page.one("article").attributes["data-manifest"] == digest
    _, command, spec, manifest = [pre.text for pre in page.all("pre")]
    assert (command, (spec,), (manifest,)) == (content().command, content().spec_texts, content().manifest_texts)


def test_page_contains_the_checklist_and_its_markdown(page: Element) -> None:
    section = next(one for one in page.all("section") if next(one.all("h2")).text == "Checklist for papers")
    answers, by_seed, markdown = section.all("details", "file")
    files = RunFiles.read(content().spec_texts, content().manifest_texts)
    unknown = len(list(answers.all("li", "missing")))

    assert f"{unknown} facts are unknown and are to be filled in." in section.text
    assert [one.text for one in answers.all("dt")] == [
        one.question + one.covers for one in checklist(comparison(), files)
    ]
    assert [cell.text for cell in by_seed.one("thead").all("th")] == ["seed", *ALPHAS]
    assert markdown.one("pre").text == checklist_markdown(comparison(), files)


def test_language_and_viewport_are_declared(page: Element, html: str) -> None:
    metas = {meta.attributes.get("name"): meta.attributes.get("content") for meta in page.all("meta")}

    assert html.startswith("<!DOCTYPE html>\n<html ")
    assert page.one("html").attributes["lang"] == "en"
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert page.one("head").one("title").text == "bios, compared with alpha=0 · neftune"


def test_policy_allows_only_the_own_style_and_script(page: Element) -> None:
    (policy,) = (meta.attributes["content"] for meta in page.all("meta") if "http-equiv" in meta.attributes)

    assert policy == (
        f"default-src 'none'; style-src {_hash(page.one('style').text)}; script-src {_hash(page.one('script').text)}; "
        "base-uri 'none'; form-action 'none'"
    )


def test_page_has_no_external_resources_and_no_inline_style_or_handler(page: Element) -> None:
    links = [element.attributes for element in page.all("a")]
    attributes = {name for element in page.all() for name in element.attributes}

    assert not {name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset", "data")}
    assert {link["href"] for link in links if not (link["href"] or "").startswith("#")} == {
        "https://arxiv.org/abs/2310.05914"
    }
    assert all(link.get("rel") == "noreferrer" for link in links if not (link["href"] or "").startswith("#"))
    assert not re.search(r"url\(|@import|@font-face", page.one("style").text)
    assert {element.tag for element in page.all()}.isdisjoint({"link", "img", "iframe", "object", "form", "base"})


@pytest.mark.parametrize("count", [1, 2])
def test_heading_levels_have_no_gaps(count: int) -> None:
    levels = [int(element.tag[1]) for element in read(_several(count)).all() if element.tag in HEADINGS]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


@pytest.mark.parametrize("count", [1, 3])
def test_ids_are_unique_and_references_resolve(count: int) -> None:
    page = read(_several(count))
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    named = [element.attributes.get("aria-labelledby") for element in page.all()]
    targets = [(element.attributes["href"] or "")[1:] for element in page.all("a") if "rel" not in element.attributes]

    assert len(ids) == len(set(ids))
    assert {*filter(None, named), *targets} <= set(ids)


def test_tables_have_header_scopes_captions_and_named_scroll_regions(page: Element) -> None:
    for region in page.all("div", "scroll"):
        assert (region.attributes["role"], region.attributes["tabindex"]) == ("region", "0")
        assert region.attributes.get("aria-label") or region.attributes.get("aria-labelledby")
    assert sum(1 for region in page.all("div", "scroll") for _ in region.all("table")) == 10
    assert len(list(page.all("caption"))) == len(list(page.all("table"))) == 10
    assert {header.attributes["scope"] for header in page.all("th")} == {"col", "row", "rowgroup"}


def test_several_comparisons_have_a_table_of_contents() -> None:
    page = read(_several(3))

    contents = page.one("nav").one("ol", "contents")
    assert [link.attributes["href"] for link in contents.all("a") if link.text == "bios"] == ["#c1", "#c2", "#c3"]
    assert page.one("h1").text == "3 comparisons"
    assert len(list(page.all("article"))) == 3


def test_missing_parts_have_no_section_and_no_link() -> None:
    bare = replace(comparison(), best=None, early_stopping=None, claims=(), base_scores=None, manifest_digest=None)
    empty = content(comparison=bare, plots={}, responses=[], responses_seed=None, spec_texts=(), manifest_texts=())
    page = read(report_page([empty]))

    assert [link.text for link in page.one("nav").all("a")] == [
        "Decision",
        "All metrics",
        "Methods",
        "Checklist for papers",
        "Reproduce",
    ]
    assert len(list(page.all("section"))) == 5
    assert not list(page.all("tr", "base"))


def test_runs_of_other_programs_have_no_reproduction_and_no_shared_data_order() -> None:
    assert "same data order and dropout" in read(report_page([content()])).text

    page = read(report_page([content(spec_texts=(), manifest_texts=(), command="")]))

    assert "same data order and dropout" not in page.text
    assert "Reproduce" not in page.text
    assert [pre.attributes["aria-label"] for pre in page.all("pre")] == ["Checklist as Markdown"]
    assert "To fill in: what a seed changes in these runs" in page.text


def test_missing_trials_are_noted_in_the_verdict(page: Element) -> None:
    assert "1 trial is missing from these numbers" in next(page.all("section")).text


def test_page_is_deterministic(html: str) -> None:
    assert report_page([content()]) == html


def test_size_limit_leaves_out_plots_and_prompts() -> None:
    heavy = replace(PLOT, svg=PLOT.svg.replace("</svg>", f"<desc>{'x' * 900_000}</desc></svg>"))
    words = " ".join(f"word{number}" for number in range(300))
    many = [replace(one, reference=words) for one in responses(400)]
    html = report_page([content(plots={str(number): heavy for number in range(5)}, responses=many)])
    page = read(html)

    shown = len(list(page.all("details", "prompt")))
    assert 1_800_000 < len(html.encode()) <= MOST_BYTES
    assert 10 < shown < 400
    assert f"{shown} of 400 prompts are shown" in html
    assert "the others are left out to limit the file size" in page.one("section", "responses").text
    assert len(list(page.all("figure"))) == 2
    assert "2 of 5 plots are shown" in html


def test_long_manifest_is_truncated() -> None:
    page = read(report_page([content(manifest_texts=("m" * 100_000,))]))

    assert "40000 more characters are left out" in list(page.all("details", "file"))[-1].text


def test_responses_state_count_and_seed(page: Element) -> None:
    text = page.one("section", "responses").text

    assert "6 of 6 prompts are shown. Responses use greedy decoding; the trained arms are those of seed 0." in text


def test_word_differences_from_the_reference_are_marked(page: Element) -> None:
    prompts = {prompt.one("bdi", "question").text: prompt for prompt in page.all("details", "prompt")}
    wrong, right = prompts["Where was person 1 born?"], prompts["Where was person 2 born?"]

    assert [mark.text for mark in wrong.all("del")] == ["Oakhurst"] * 5
    assert [mark.text for mark in wrong.all("ins")] == ["Limebank"] * 5
    assert not list(right.all("ins"))
    assert "0 of 4 arms equal the reference; ROUGE-L 0.80" in wrong.text


def test_hostile_text_is_escaped_and_visible() -> None:
    attack = "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>\x00\x1b\u202eevil\ud800 & \"'"
    page = read(report_page([_attacked(attack)]))

    assert [element.tag for element in page.all() if element.tag in ("script", "img")] == ["script"]
    assert page.text.count("</script></style><script>alert(1)") >= 12
    assert page.text.count("␀␛⌈RLO⌉evil� & \"'") >= 12
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page.text)


def test_long_responses_are_truncated_and_emoji_are_kept() -> None:
    response = generation("base", 1, response="🦜" * 10_000, reference="a" * 100_000)
    html = report_page(
        [
            content(
                responses=[replace(one, reference="a" * 100_000, responses={"base": response}) for one in responses(1)]
            )
        ]
    )

    assert html.count("🦜") == 3_000
    assert "… 7000 more characters" in html
    assert "… 97000 more characters" in html


def _several(count: int) -> str:
    return report_page([content() for _ in range(count)])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _attacked(attack: str) -> PageContent:
    whole = comparison()
    arms = tuple(replace(arm, name=attack) if arm.name == "alpha=15" else arm for arm in whole.arms)
    claims = tuple(replace(one, claim=attack, paper=attack, here=attack, caveat=attack) for one in whole.claims)
    setting = replace(whole.setting, model=attack, data=attack)
    attacked = replace(whole, sweep=attack, setting=setting, arms=arms, claims=claims, difference_from_first=attack)
    prompt = responses(1)[0]
    response = prompt.responses["base"].model_copy(update={"response": attack, "exact_match": False})
    prompt = replace(prompt, kind=attack, prompt=attack, reference=attack, responses={attack: response})
    plot = replace(PLOT, name=attack, title=attack, caption=attack)
    files = replace(
        content(), spec_texts=(attack,), manifest_texts=(attack,), command=attack, advice=attack, footnotes=[attack]
    )
    return replace(files, comparison=attacked, responses=[prompt], plots={attack: plot})
