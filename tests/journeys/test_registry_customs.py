"""Registries with customs of their own: projects that must exist, tags that stay, limits on requests."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.faulty_proxy import FaultyProxy
from tests.parts.faulty_registry import Answer, challenge, limited, status
from tests.parts.images import File, Image, Layer, push, write_layout
from tests.parts.programs import Program, assert_refused, docker_config, from_source, with_environment
from tests.parts.registry import Registry
from tests.parts.token_server import TokenServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.journeys.conftest import Carried
    from tests.parts.faulty_registry import Handler

WORD = "right horse"


class SmallHarbor(FaultyProxy):
    """What a Harbor adds to a registry: projects, made through its API by who knows the password."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.projects: set[str] = set()
        self.on("POST", "^/api/v2.0/projects$", self._make)
        for method in ("POST", "PUT", "PATCH"):
            self.on(method, "^/v2/", self._push)

    def _make(self, handler: Handler) -> None:
        wanted = "Basic " + base64.b64encode(f"ferry:{WORD}".encode()).decode()
        if handler.seen.headers.get("authorization") != wanted:
            handler.reply(Answer(401, {}, b'{"errors":[{"code":"UNAUTHORIZED","message":"unauthorized"}]}'))
            return
        name = json.loads(handler.seen.body)["project_name"]
        handler.reply(Answer(409 if name in self.projects else 201))
        self.projects.add(name)

    def _push(self, handler: Handler) -> None:
        project = handler.seen.path.split("/")[2]
        if project in self.projects:
            handler.reply(handler.answer())
        else:
            said = {"errors": [{"code": "NOT_FOUND", "message": f"project {project} not found"}]}
            handler.reply(Answer(404, {}, json.dumps(said).encode()))


class Rationed(FaultyProxy):
    """What the API of a Harbor or a Quay tells of quotas, before a registry whose clients need a token.

    Answers have the fields that the real ones have. `quota` is what the project `airferry` may hold and holds.
    """

    def __init__(self, target: str, kind: str) -> None:
        super().__init__(target)
        self.quota: tuple[int, int] | None = None
        path, service, api, who = {
            "harbor": ("/service/token", "harbor-registry", "^/api/v2.0/projects/airferry/summary$", "Basic "),
            "quay": ("/v2/auth", target, "^/api/v1/organization/airferry$", f"Bearer {WORD}"),
        }[kind]
        self._who, self._view = who, self._harbor if kind == "harbor" else self._quay
        self.on("GET", f"^{path}$", status(200, body=b'{"token":"t"}'))
        self.on("GET", api, self._tell)
        for method in ("HEAD", "GET", "POST", "PUT", "PATCH"):
            self.on(method, "^/v2/", challenge(f'Bearer realm="{self.url}{path}",service="{service}"', always=False))

    def _tell(self, handler: Handler) -> None:
        given = handler.seen.headers.get("authorization", "")
        refused = not given.startswith(self._who) or self.quota is None
        handler.reply(Answer(403) if refused else Answer(200, {}, json.dumps(self._view()).encode()))

    def _harbor(self) -> dict[str, Any]:
        most, used = self.quota or (-1, 0)
        return {"repo_count": 3, "quota": {"hard": {"storage": most}, "used": {"storage": used}}}

    def _quay(self) -> dict[str, Any]:
        most, used = self.quota or (-1, 0)
        limits = [{"id": 1, "type": "Warning", "limit_percent": 10}, {"id": 2, "type": "Reject", "limit_percent": 50}]
        quotas = [{"id": 1, "limit_bytes": 2 * most, "limits": limits}] if most > 0 else []
        report = {"quota_bytes": used, "configured_quota": None, "running_backfill": "complete"}
        return {"name": "airferry", "is_member": True, "quotas": quotas, "quota_report": report}


@pytest.fixture
def loader(carried: Carried, tmp_path: Path) -> Program:
    return from_source("installer", tmp_path, "--bundle", carried.bundle, "--key", carried.key)


@pytest.fixture
def passing(enclave: Registry) -> Iterator[FaultyProxy]:
    with FaultyProxy(enclave.address) as proxy:
        yield proxy


def test_projects_that_do_not_exist_yet(loader: Program, enclave: Registry, tmp_path: Path) -> None:
    with SmallHarbor(enclave.address) as harbor:
        places = loader.result("load", "--registry", harbor.address, "--list-repositories")
        assert places["projects"] == ["airferry"]
        assert f"{harbor.address}/airferry/docker.io/demo/worker" in places["repositories"]
        assert f"{harbor.address}/airferry/charts/demo-app" in places["repositories"]
        assert not harbor.seen
        load = ("load", "--registry", harbor.address)
        for options, names in (((), "airferry"), (("--project", ""), "airferry, charts, docker.io")):
            done = loader.run(*load, *options)
            assert_refused(done, 22, "not found", f"projects: {names}\n", "demo/worker", "--create-projects")
        assert_refused(loader.run(*load, "--create-projects"), 21, "needs a user name")
        (tmp_path / "wrong").mkdir()
        wrong = with_environment(loader, docker_config(tmp_path / "wrong", harbor.address, "wrong horse"))
        assert_refused(wrong.run(*load, "--create-projects"), 21, "401")
        right = with_environment(loader, docker_config(tmp_path, harbor.address, WORD))
        made = right.run(*load, "--create-projects")
        assert (made.returncode, "project airferry: made" in made.stderr) == (0, True), made.stderr
        assert "project airferry: was there" in right.run(*load, "--create-projects").stderr
        assert harbor.projects == {"airferry"}
    assert_refused(loader.run("load", "--registry", enclave.address, "--create-projects"), 21, "needs a user name")
    other = with_environment(loader, docker_config(tmp_path / "wrong" / "docker", enclave.address, WORD))
    done = other.run("load", "--registry", enclave.address, "--create-projects")
    assert_refused(done, 22, "no API of Harbor", "--list-repositories")


@pytest.mark.parametrize(("kind", "user"), [("harbor", "ferry"), ("quay", "$oauthtoken")])
def test_a_quota_that_is_too_small_is_told_before_anything_is_sent(
    loader: Program, enclave: Registry, tmp_path: Path, kind: str, user: str
) -> None:
    with Rationed(enclave.address, kind) as registry:
        program = with_environment(loader, docker_config(tmp_path, registry.address, WORD, user))
        load = ("load", "--registry", registry.address)
        registry.quota = (12_000_000, 7_000_000)
        said = f"{registry.address}/airferry: its quota of 12 MB leaves room for 5 MB, and "
        assert_refused(program.run(*load), 23, said, "are lacking there\nnothing was sent", "--ignore-quota")
        assert not any(registry.count(method, "^/v2/.*") for method in ("POST", "PUT", "PATCH"))
        # Who is not told, and who has been told that there is no limit, loads.
        registry.quota = (-1, 7_000_000)
        sent = program.result(*load)["sent"]
        assert sent > 5_000_000
        # What is there needs no room.
        registry.quota = (12_000_000, 12_000_000)
        assert program.result(*load)["sent"] == 0
        assert program.result(*load, "--project", "airferry/more", "--ignore-quota")["mounted"] > 0


@pytest.mark.parametrize(("kind", "user"), [("harbor", "ferry"), ("quay", "$oauthtoken"), ("quay", "ferry")])
def test_a_registry_that_does_not_tell_of_quotas_is_loaded_into(
    loader: Program, enclave: Registry, tmp_path: Path, kind: str, user: str
) -> None:
    with Rationed(enclave.address, kind) as registry:
        program = with_environment(loader, docker_config(tmp_path, registry.address, WORD, user))
        assert program.result("load", "--registry", registry.address)["sent"] > 0
        # An account's password is no token for Quay's API: it is not even asked.
        assert registry.count("GET", "^/api/") == (user != "ferry" or kind == "harbor")


def test_repositories_that_come_into_being_when_a_token_is_asked_for(loader: Program, tmp_path: Path) -> None:
    with (
        TokenServer(tmp_path, {"ferry": WORD}, creates=True) as tokens,
        Registry(tmp_path / "quay", settings=tokens.settings) as registry,
    ):
        program = with_environment(loader, docker_config(tmp_path, registry.address, WORD))
        assert program.result("load", "--registry", registry.address)["sent"] > 0


def test_a_tag_that_stays(loader: Program, carried: Carried, passing: FaultyProxy, tmp_path: Path) -> None:
    """The error names the tag, what it names, and what it should name."""
    name = "airferry/docker.io/demo/worker"
    other = write_layout(tmp_path / "other", Image((Layer({"/other": File(b"x")}),)))
    there = push(other, f"{passing.target}/{name}:1.0")
    said = b'{"errors":[{"code":"PRECONDITION","message":"tag 1.0 is configured as immutable"}]}'
    passing.on("PUT", f"/{name}/manifests/1.0", status(412, body=said))
    wanted = carried.layouts["docker.io/demo/worker:1.0"].digest
    done = loader.run("load", "--registry", passing.address)
    assert done.returncode == 23
    for text in (
        f"{name}:1.0: names {there}",
        wanted,
        "configured as immutable",
        "\nnext: its tags",
        "another project",
    ):
        assert text in done.stderr
    assert "docker.io/demo/data:1.0  loaded" in done.stdout


def test_what_answers_tell_is_told(loader: Program, passing: FaultyProxy) -> None:
    for method in ("PUT", "PATCH"):
        passing.on(method, "/uploads/", limited(4 << 20))
    for method in ("POST", "HEAD"):
        passing.on(method, "/v2/", status(429, {"Retry-After": "0"}), times=2, after=2)
    result = loader.result("load", "--registry", passing.address)
    assert result["registry"] == {
        "mounts": True,
        "resumes": None,
        "largest_request": 4 << 20,
        "slowed_down": 4,
        "lists_referrers": None,
    }
    sizes = [len(seen.body) for seen in passing.seen if seen.method == "PATCH"]
    assert max(sizes) == 4 << 20


def test_images_that_are_refused_are_told_together_and_the_others_are_there(
    loader: Program, passing: FaultyProxy
) -> None:
    said = b'{"errors":[{"code":"MANIFEST_INVALID","message":"this kind is not taken"}]}'
    passing.on("PUT", "/demo/worker/manifests/", status(415, body=said))
    done = loader.run("load", "--registry", passing.address, "--output", "json")
    result = json.loads(done.stdout)
    assert done.returncode == 23
    assert list(result["refused"]) == ["docker.io/demo/worker:1.0"]
    told = result["refused"]["docker.io/demo/worker:1.0"]
    assert (told["code"], "this kind is not taken" in told["message"], bool(told["next"])) == (23, True, True)
    assert result["images"]
    assert "docker.io/demo/worker:1.0" not in {item["source"] for item in result["images"]}
    assert "error: docker.io/demo/worker:1.0: " in done.stderr
    assert "\nnext: " in done.stderr
    # Where nothing is loaded, the error is the result.
    with FaultyProxy(passing.target) as strict:
        strict.on("POST", "/v2/", status(403))
        strict.on("PUT", "/v2/", status(403))
        refused = loader.run("load", "--registry", strict.address, "--project", "other")
    assert_refused(refused, 21, "refusals; no image is loaded", "docker.io/demo/worker:1.0: ", "projects: other\n")


def test_images_that_cannot_be_collected_are_told_together(carried: Carried, airferry: Program) -> None:
    """By `lock`, and by `build` where a registry changes its mind; the next build fetches only what is lacking."""
    with FaultyProxy(carried.upstream.address) as upstream:
        recipe = f"""
name: small
version: "1"
images: [docker.io/demo/worker:1.0, docker.io/demo/data:1.0, docker.io/demo/tools:1.0]
registries: {{docker.io: {{mirror: "{upstream.url}"}}}}
"""
        (airferry.folder / "recipe.yaml").write_text(recipe)
        airferry.result("lock")
        upstream.on("GET", "/demo/worker/blobs/", status(403), times=1)
        upstream.on("GET", "/demo/tools/blobs/", status(404), times=1)
        names = ("docker.io/demo/worker:1.0: ", "docker.io/demo/tools:1.0: ")
        done = airferry.run("build")
        assert_refused(done, 22, "2 refusals; all other content is kept for the next run", *names)
        upstream.seen.clear()
        airferry.result("build")
        assert upstream.count("GET", "/demo/worker/blobs/")
        assert not upstream.count("GET", "/demo/data/blobs/")
        for repository in ("worker", "tools"):
            upstream.on("GET", f"/demo/{repository}/manifests/", status(404))
        assert_refused(airferry.run("lock", "--update"), 22, "docker.io/demo/worker:1.0", "docker.io/demo/tools:1.0")
