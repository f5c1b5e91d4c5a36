"""Artifacts that controllers fetch by themselves: read from a real registry, and what they name is carried."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from builder.resolve.listing import image_list, image_table
from installer.errors import AirferryError, ContentError, RecipeError
from tests.parts.charts import APP_IMAGES
from tests.parts.demo_site import site_of
from tests.parts.images import DOCKER, OCI, File, Image, Layer, Layout, LayoutWriter, compact, push, write_layout
from tests.parts.registry import Registry
from tests.parts.workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from builder.recipe.recipe import Recipe
    from tests.parts.images import Family

TAG = "2.0"
SOURCE = f"vendor.example/demo/catalog:{TAG}"
RESOURCE = "apiVersion: demo.example/v1\nkind: Platform\nmetadata: {name: platform}\nspec: {size: small}\n"
CATALOG: dict[str, Any] = {
    "contract": 1,
    "store": {
        "default": {"images": {"server": {"registry": "vendor.example", "repository": "demo/store", "tag": "1"}}}
    },
    "queue": {"images": {"tool": {"repository": "demo/tool", "tag": "3"}}},
    "parts": {
        "web": {"image": {"repository": "vendor.example/demo/web", "tag": TAG}, "containers": [{"name": "web"}]},
        "api": {"image": "vendor.example/demo/api:2.0", "containers": [{"image": {"repository": ""}}, {}]},
    },
}
SIZING = {"store": {"default": {"sizes": {"small": 1}, "images": {"server": {"repository": "vendor.example/late"}}}}}
FILES = {"catalog.yaml": CATALOG, "sizing.yaml": SIZING}
NAMED = {
    "vendor.example/demo/store:1": "artifact catalog:2.0: store.default.images.server",
    "docker.io/demo/tool:3": "artifact catalog:2.0: queue.images.tool",
    "vendor.example/demo/web:2.0": "artifact catalog:2.0: parts.web.image",
    "vendor.example/demo/api:2.0": "artifact catalog:2.0: parts.api.image",
    "nowhere.invalid/demo/tool:3": "artifact catalog:2.0: queue.images.tool",
    "nowhere.invalid/demo/list:2.0": "platform-resource.json: Platform platform: spec.release",
    SOURCE: "platform-resource.json: Platform platform: spec.release",
}
SECOND = {"nowhere.invalid/demo/tool:3": "docker.io/demo/tool:3", "nowhere.invalid/demo/list:2.0": SOURCE}
"""Names as controllers spell them, who put the enclave's registry and project before."""
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 64))
"""Few bytes that aliases make into more than any memory holds."""
ARTIFACT: dict[str, Any] = {
    "repository": "vendor.example/demo/catalog",
    "also_at": ["demo/list"],
    "step": "platform.yaml",
    "version_at": "spec.release",
    "readers": {"demo-app": ">=1.0.0-beta.4"},
    "contract": {"key": "contract", "supported": [1]},
    "first_file": ["store.*.images"],
    "images": {
        "store.default.images.server": {"unless": "spec.store.external"},
        "queue.images.tool": {},
        "parts.*.image": {},
        "parts.*.containers.*.image": {"required": False},
    },
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("upstream")) as running:
        image = write_layout(tmp_path_factory.mktemp("image"), Image((Layer({}),)), tag="x")
        for name in (*NAMED.keys() - {SOURCE, *SECOND}, *APP_IMAGES):
            push(image, f"{running.address}/{name.partition('/')[2]}")
        yield running


class Vendor:
    """A workshop whose artifact is pushed as it is told, each time to a place of its own."""

    def __init__(self, workshop: Workshop, registry: Registry) -> None:
        self.workshop, self.registry = workshop, registry
        self.place = f"{registry.address}/{workshop.folder.name.lower().replace('_', '-')}/catalog"
        workshop.chart("demo-app", version="1.0.0-beta.4")
        workshop.file("platform.yaml", RESOURCE)

    def publish(self, files: Mapping[str, Any] = FILES, *, family: Family = OCI, packed: bool = True) -> Layout:
        """Push `files`; a text is taken as it is."""
        layer = layer_of(files, packed=packed)
        return self.push(write_layout(self.workshop.folder / "artifact", Image((layer,)), tag="x", family=family))

    def push(self, layout: Layout) -> Layout:
        push(layout, f"{self.place}:{TAG}")
        return layout

    def recipe(
        self,
        exclude: Sequence[Mapping[str, str]] = (),
        questions: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Recipe:
        profile = {
            "versions": {"release": ["demo/catalog"]},
            "steps": [{"chart": "demo-app"}, {"resource": "platform.yaml", "controller": "demo-app"}],
            "artifacts": [{**ARTIFACT, **changes}],
            "exclude": exclude,
            "questions": questions or {},
        }
        near = f"{self.registry.address}/"
        substitutions = {"vendor.example/": near, "docker.io/": near, "vendor.example/demo/catalog": self.place}
        # The controller brings the kind itself.
        more = {"version": None, "kubernetes": {"api_versions": ["demo.example/v1"]}, "substitutions": substitutions}
        more |= {"versions": {"release": TAG}}
        return self.workshop.recipe(profile, more)

    def names(self, **changes: Any) -> set[str]:
        self.recipe(**changes)
        return self.workshop.found().images.keys() - {*APP_IMAGES}

    def refusal(self, error: type[AirferryError], **changes: Any) -> str:
        self.recipe(**changes)
        with pytest.raises(error) as caught:
            self.workshop.found()
        return f"{caught.value.message}; {caught.value.hint}"


@pytest.fixture
def vendor(tmp_path: Path, registry: Registry) -> Vendor:
    return Vendor(Workshop(tmp_path), registry)


def layer_of(files: Mapping[str, Any], *, packed: bool = True) -> Layer:
    texts = {name: text if isinstance(text, str) else yaml.safe_dump(text) for name, text in files.items()}
    entries = {name: File(text.encode()) for name, text in texts.items()}
    return Layer(entries, compression="gzip" if packed else "none")


def changed(path: str, value: Any) -> dict[str, Any]:
    """The files with `value` at the dotted `path` of the catalog; None takes away what is there."""
    files: dict[str, Any] = json.loads(json.dumps(FILES))
    *above, last = path.split(".")
    node = files["catalog.yaml"]
    for key in above:
        node = node.setdefault(key, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return files


def test_what_an_artifact_names_is_carried_and_the_artifact_as_it_is(vendor: Vendor) -> None:
    layout = vendor.publish({**FILES, "README.md": "vendor.example/demo/other:9"})
    lock = vendor.workshop.lock_of(vendor.recipe())
    images = {image.source: str(image.reasons[0]) for image in lock.images}
    assert {name: images[name] for name in images.keys() - {*APP_IMAGES}} == NAMED
    [artifact] = [image for image in lock.images if image.source == SOURCE]
    assert (artifact.digest.text, artifact.upstream.text) == (layout.digest, layout.digest)
    digests = {image.source: image.digest for image in lock.images}
    assert {name: digests[name] for name in SECOND} == {name: digests[image] for name, image in SECOND.items()}
    [resource] = [item for item in lock.documents if item.kind == "resource"]
    written = json.loads(lock.blobs_by_digest()[resource.digest].content)
    assert written["spec"] == {"size": "small", "release": TAG}
    assert "artifact catalog:2.0: queue.images.tool" in image_table(image_list(lock))
    # Whatever the tag says by now: what is locked stays.
    vendor.publish(changed("queue.images.more", "vendor.example/demo/web:2.0"))
    assert vendor.workshop.lock_of(vendor.recipe(), old=lock) == lock


@pytest.mark.parametrize(("family", "packed"), [(OCI, False), (DOCKER, True), (DOCKER, False)])
def test_all_forms_that_a_controller_reads_are_read(vendor: Vendor, family: Family, packed: bool) -> None:
    vendor.publish(family=family, packed=packed)
    assert vendor.names() == NAMED.keys()


def test_of_an_index_the_first_manifest_is_read_and_the_whole_is_carried(vendor: Vendor, tmp_path: Path) -> None:
    images = [Image((layer_of(FILES),)), Image((layer_of({"other.yaml": "parts: {}"}),))]
    layout = vendor.push(write_layout(tmp_path / "index", images, tag="x"))
    lock = vendor.workshop.lock_of(vendor.recipe())
    assert {image.source for image in lock.images} == {*NAMED, *APP_IMAGES}
    assert layout.digest in {image.digest.text for image in lock.images}


def test_a_later_layer_replaces_files(vendor: Vendor, tmp_path: Path) -> None:
    layers = (layer_of(changed("queue.images.tool", "demo/tool:1")), layer_of(FILES))
    vendor.push(write_layout(tmp_path / "layers", Image(layers), tag="x"))
    assert vendor.names() == NAMED.keys()


def test_an_index_that_begins_with_an_attestation_is_refused(vendor: Vendor, tmp_path: Path) -> None:
    writer = LayoutWriter(tmp_path / "index")
    image = writer.put_image(Image((layer_of(FILES),)), OCI)
    attestation = {**image, "platform": {"os": "unknown", "architecture": "unknown"}}
    root = writer.put_document({"manifests": [attestation, image]}, OCI.index)
    writer.finish(root, "x")
    vendor.push(Layout(writer.path, "x", root["digest"], OCI.index, (), writer.sizes))
    assert "begins with an attestation" in vendor.refusal(ContentError)


def test_a_layer_with_zstd_is_refused(vendor: Vendor, tmp_path: Path) -> None:
    writer = LayoutWriter(tmp_path / "zstd")
    layer = writer.put(b"(\xb5/\xfd", f"{OCI.layer}+zstd")
    config = writer.put(compact({"os": "linux", "architecture": "amd64"}), OCI.config)
    root = writer.put_document({"config": config, "layers": [layer]}, OCI.manifest)
    writer.finish(root, "x")
    vendor.push(Layout(writer.path, "x", root["digest"], OCI.manifest, (root["digest"],), writer.sizes))
    refusal = vendor.refusal(ContentError)
    assert "tar+zstd, which the program in the cluster does not read" in refusal


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"catalog.yaml": f"{json.dumps(CATALOG)}\n---\n{{}}\n"}, "catalog.yaml: line 2, column 1"),
        ({"catalog.yaml": "[]"}, "not a mapping"),
        ({"catalog.yaml": LAUGHS}, "more than 1000000 values"),
        ({"catalog.yaml": "#" * (16 << 20), "more.yaml": "{}"}, "documents of more than 16777216 bytes"),
        ({"catalog.json": "{}"}, "no .yaml file in it"),
        (changed("contract", 2), "contract is 2; the profile knows 1"),
        (changed("contract", "1"), "contract is '1'"),
        (changed("queue.images.tool", None), "names no image at queue.images.tool"),
        (changed("queue.images.tool", {"repository": "", "tag": ""}), "names no image at queue.images.tool"),
        (changed("queue.images.tool", {"tag": "3"}), "queue.images.tool: not an image"),
        ({**FILES, "queue.yaml": {"queue": {"images": {"tool": "demo/tool:4"}}}}, "names another image"),
        ({"a.yaml": {"store": {"default": {}}}, **FILES}, "names no image at store.default.images.server"),
    ],
)
def test_an_artifact_that_cannot_be_what_its_controller_reads_is_refused(
    vendor: Vendor, files: Mapping[str, Any], said: str
) -> None:
    vendor.publish(files)
    assert said in vendor.refusal(ContentError)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("queue.images.more", {"repository": "demo/more", "tag": "1"}, "queue.images.more: demo/more:1"),
        ("jobs.first.image", "vendor.example/demo/job:1", "jobs.first.image: vendor.example/demo/job:1"),
        ("env", [{"name": "SIDECAR", "value": "vendor.example/demo/side:1"}], "env[0].value"),
        ("store.second", CATALOG["store"]["default"], "store.second.images.server: vendor.example/demo/store:1"),
    ],
)
def test_an_image_in_a_place_that_the_profile_does_not_know_is_refused(
    vendor: Vendor, path: str, value: Any, said: str
) -> None:
    vendor.publish(changed(path, value))
    assert said in vendor.refusal(RecipeError)


@pytest.mark.parametrize(
    ("written", "image", "second"),
    [
        ({"registry": "docker.io", "repository": "tool", "tag": "3"}, "docker.io/library/tool:3", {"docker.io/tool:3"}),
        ("demo/tool:3", "docker.io/demo/tool:3", {"demo/tool:3"}),
        ("docker.io/demo/tool:3", "docker.io/demo/tool:3", set()),
        # What no path in a registry can be.
        ("tools.example:5000/tool:3", "tools.example:5000/tool:3", set()),
    ],
)
def test_a_name_that_is_not_written_in_full_is_a_second_one(
    vendor: Vendor, written: Any, image: str, second: set[str]
) -> None:
    vendor.publish(changed("queue.images.tool", written))
    named = NAMED.keys() - {"docker.io/demo/tool:3", "nowhere.invalid/demo/tool:3"}
    assert vendor.names() - named == {image, *(f"nowhere.invalid/{name}" for name in second)}


def test_what_is_excluded_is_so_by_all_names(vendor: Vendor) -> None:
    vendor.publish()
    vendor.recipe(exclude=[{"image": "docker.io/demo/tool:3", "reason": "the site has one"}])
    assert not [name for name in vendor.workshop.found().images if "tool:3" in name]


def test_an_absent_contract_is_the_first_one(vendor: Vendor) -> None:
    vendor.publish(changed("contract", None))
    assert vendor.names() == NAMED.keys()


def test_what_the_resource_makes_superfluous_is_optional(vendor: Vendor) -> None:
    vendor.publish()
    vendor.workshop.file("platform.yaml", f"{RESOURCE.strip()[:-1]}, store: {{external: {{host: db}}}}}}\n")
    vendor.recipe()
    found = vendor.workshop.found()
    assert NAMED.keys() - found.images.keys() == {"vendor.example/demo/store:1"} == found.optional.keys()
    assert "vendor.example/demo/store:1\n      spec.store.external=null" in image_table(image_list(found))
    # And need not be there.
    vendor.publish(changed("store", None))
    assert vendor.names() == NAMED.keys() - {"vendor.example/demo/store:1"}


def test_answers_of_a_site_make_superfluous_too(vendor: Vendor) -> None:
    vendor.publish()
    place = {"step": "platform.yaml", "path": "spec.store.external.host"}
    question = {"type": "text", "help": "Where the store is.", "example": "db.example", "to": [place]}
    vendor.recipe(questions={"store": question})
    assert "vendor.example/demo/store:1" in vendor.workshop.found().images
    found = vendor.workshop.found(lambda app: site_of(app, vendor.workshop.folder, store="db.example"))
    assert "vendor.example/demo/store:1" in found.optional


def test_a_chart_that_reads_it_in_another_way_is_refused(vendor: Vendor) -> None:
    vendor.publish()
    refusal = vendor.refusal(RecipeError, readers={"demo-app": ">=1.0.0-beta.5"})
    assert "demo-app 1.0.0-beta.4 reads catalog in another way" in refusal


def test_the_tag_comes_from_one_place(vendor: Vendor) -> None:
    vendor.publish()
    assert "no version of the recipe is the tag of vendor.example/demo/other" in vendor.refusal(
        RecipeError, repository="vendor.example/demo/other"
    )
    vendor.workshop.file("platform.yaml", f"{RESOURCE.strip()[:-1]}, release: '1.0'}}\n")
    assert "spec.release is 1.0, and the recipe's versions say 2.0" in vendor.refusal(RecipeError)
