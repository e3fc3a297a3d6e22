"""Container, compose file, Kubernetes template and example workflows, as far as text can be held.

None of them is run here: there is no container runtime, cluster or GitHub. By what else each was
checked: docs/reference/shipping.md.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import stat
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from prefect.settings import Settings
from prefect.settings.legacy import _get_settings_fields
from prefect.utilities.templating import apply_values, find_placeholders

import longtail
from flows.cli import build_parser

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deployments"
PAGE = (ROOT / "docs" / "reference" / "shipping.md").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
TEMPLATE = json.loads((FOLDER / "kubernetes" / "base-job-template.json").read_text())
WORKFLOWS = sorted((FOLDER / "github").glob("*.yml"))
OUR_VARIABLES = {"LONGTAIL_STORE", "LONGTAIL_HOME", "MLFLOW_TRACKING_URI"}


def known(name):
    return not name.startswith("PREFECT_") or name in _get_settings_fields(Settings)


# ── Dockerfile ───────────────────────────────────────────────────────────────────────────────


def instructions():
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]


def given(name):
    return [rest for word, rest in instructions() if word == name]


def test_what_the_dockerfile_copies_is_there_and_let_into_the_build():
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines()
              if line.startswith("!")}  # fmt: skip
    copied = {part for rest in given("COPY") if not rest.startswith("--from")
              for part in rest.split()[:-1]}  # fmt: skip

    assert copied == let_in
    assert all((ROOT / part).exists() for part in copied)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert {name.rstrip("*") for name in packages["packages"]["find"]["include"]} <= copied


def test_the_image_runs_as_nobody_in_particular_and_by_a_named_release():
    assert given("USER") == ["10001:10001"]
    assert instructions().index(["USER", "10001:10001"]) > instructions().index(
        ["VOLUME", '["/data"]']
    )
    for base in given("FROM"):
        assert re.match(r"python:\$\{PYTHON\}-slim-\w+", base)
    for word in ("ENTRYPOINT", "CMD", "VOLUME"):
        assert all(isinstance(json.loads(rest), list) for rest in given(word))
    (check,) = given("HEALTHCHECK")
    compile(json.loads(check.partition("CMD ")[2])[2], "HEALTHCHECK", "exec")


def test_the_images_arguments_are_explained_and_its_extras_exist():
    arguments = dict(rest.split("=", 1) for rest in given("ARG"))
    assert set(arguments) == {"PYTHON", "TORCH_INDEX", "EXTRAS"}
    assert all(f"`{name}`" in PAGE for name in arguments)
    assert arguments["TORCH_INDEX"] == '""'
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = arguments["EXTRAS"].strip('"').split(",")
    assert set(extras) <= set(project["optional-dependencies"])


def test_the_images_variables_are_ones_that_somebody_reads():
    (_, variables) = given("ENV")
    names = dict(one.split("=", 1) for one in shlex.split(variables))
    assert all(known(name) for name in names)
    assert names["LONGTAIL_HOME"] == names["HOME"] == "/data"
    assert names["LONGTAIL_STORE"].startswith("/data/")
    telemetry = {"DO_NOT_TRACK", "GX_ANALYTICS_ENABLED", "MLFLOW_DISABLE_TELEMETRY"}
    assert telemetry < set(names)


# ── compose ──────────────────────────────────────────────────────────────────────────────────


def environments():
    for service in SERVICES.values():
        yield from service.get("environment", {}).items()


def test_every_service_says_when_it_is_well_and_waits_for_what_it_needs():
    for name, service in SERVICES.items():
        check = service.get("healthcheck")
        assert check or name == "worker", name  # the worker's is the image's own
        for needed, how in service.get("depends_on", {}).items():
            assert needed in SERVICES
            assert how["condition"] in {"service_healthy", "service_completed_successfully"}
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[needed]["healthcheck"]
    waits = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    assert waits["server"] == {"postgres"}
    assert waits["worker"] == {"deploy", "mlflow"}


def test_every_command_is_one_that_the_image_has():
    scripts = {one.name for one in importlib.metadata.entry_points(group="console_scripts")}
    for name, service in SERVICES.items():
        if name == "postgres":
            continue
        program, *rest = service["command"]
        assert program in scripts | {"python"}
        if program == "longtail":
            build_parser().parse_args(rest)
        if program == "python":
            (copied,) = [rest for rest in given("COPY") if rest.startswith("deployments ")]
            inside = Path(rest[0]).relative_to(Path(copied.split()[-1]).parent)
            assert (ROOT / inside).is_file()


def test_no_password_stands_in_the_file_and_none_has_a_default():
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{(\w+):\?", text))
    optional = set(re.findall(r"\$\{(\w+):-", text))
    assert all(":?" in value for name, value in environments() if "PASSWORD" in name)
    assert required == {"POSTGRES_PASSWORD"}
    assert not any(re.search("PASSWORD|SECRET|TOKEN|KEY", name) for name in optional)
    example = (FOLDER / "example.env").read_text(encoding="utf-8")
    assert {name for name in required if f"\n{name}=\n" in example} == required
    assert "deployments/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_variables_of_the_services_are_settings_of_prefect_or_ours():
    for name, _ in environments():
        assert known(name), name
        assert name.startswith(("PREFECT_", "POSTGRES_")) or name in OUR_VARIABLES, name


def test_prefect_takes_the_values_that_its_server_is_given(monkeypatch):
    for name, value in SERVICES["server"]["environment"].items():
        filled = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:\?[^}]*\}", "secret", filled))
    server = Settings().server

    url = server.database.connection_url.get_secret_value()
    assert url == "postgresql+asyncpg://prefect:secret@postgres:5432/prefect"
    assert server.events.retention_period.days == 7
    assert server.services.db_vacuum.retention_period.days == 30
    assert server.services.db_vacuum.enabled == {"events", "flow_runs"}


def test_services_of_ours_are_confined_and_open_on_this_machine_alone():
    assert SERVICES["postgres"]["image"].partition(":")[2][0].isdigit()
    assert "ports" not in SERVICES["postgres"]
    for name, service in SERVICES.items():
        assert all(port.startswith("${BIND:-127.0.0.1}:") for port in service.get("ports", []))
        assert {one.partition(":")[0] for one in service.get("volumes", [])} <= set(
            COMPOSE["volumes"]
        )
        if name != "postgres":
            assert service["image"] == f"longtail:{longtail.__version__}"
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]


def test_the_gpu_is_asked_for_by_a_service_that_there_is():
    override = yaml.safe_load((FOLDER / "compose.gpu.yaml").read_text())["services"]
    assert set(override) == {"worker"} < set(SERVICES)
    (device,) = override["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


# ── Kubernetes ───────────────────────────────────────────────────────────────────────────────


def job(**values):
    """The job's manifest as Prefect fills it in."""
    defaults = {name: one["default"] for name, one in TEMPLATE["variables"]["properties"].items()
                if "default" in one}  # fmt: skip
    filled = {**defaults, "image": "longtail:0.1.0", "env": {"A": "b"}, **values}
    jsonschema.validate(filled, TEMPLATE["variables"])
    return apply_values(TEMPLATE["job_configuration"], filled)["job_manifest"]


def test_the_template_uses_exactly_the_variables_that_it_declares():
    named = {one.name for one in find_placeholders(TEMPLATE["job_configuration"])}
    assert named == set(TEMPLATE["variables"]["properties"])


def test_a_job_asks_for_one_gpu_unless_told_otherwise():
    (container,) = job()["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    (without,) = job(gpus=0)["spec"]["template"]["spec"]["containers"]
    assert without["resources"]["limits"]["nvidia.com/gpu"] == 0
    with pytest.raises(jsonschema.ValidationError):
        job(gpus="many")


def test_a_job_runs_as_the_images_user_and_writes_where_the_image_does():
    pod = job()["spec"]["template"]["spec"]
    (user,) = given("USER")
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == user
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounted = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    assert {"/data", "/tmp"} <= set(mounted)
    assert set(mounted.values()) == {one["name"] for one in pod["volumes"]}
    claim = yaml.safe_load((FOLDER / "kubernetes" / "store.yaml").read_text())["metadata"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["name"]


def test_the_page_on_kubernetes_names_variables_that_there_are():
    page = (FOLDER / "kubernetes" / "README.md").read_text(encoding="utf-8")
    first_cells = "".join(re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", first_cells)) <= set(TEMPLATE["variables"]["properties"])


# ── example workflows ────────────────────────────────────────────────────────────────────────


def steps(path):
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return [step for one in jobs.values() for step in one["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_pins_its_actions_and_asks_for_little(path):
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w/-]+@[0-9a-f]{40}", one) for one in used)
    assert "pull_request_target" not in text
    assert "secrets." not in text
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for name, one in workflow["jobs"].items():
        assert one["timeout-minutes"] <= 120
        if "write" in one.get("permissions", {}).values():
            assert name == "comment"
            assert not any("checkout" in step.get("uses", "") for step in one["steps"])
            assert "head.repo.full_name == github.repository" in one["if"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_commands_of_a_workflow_are_ones_that_longtail_has(path):
    runs = " ".join(step.get("run", "") for step in steps(path))
    environment = yaml.safe_load(path.read_text(encoding="utf-8")).get("env", {})
    filled = re.sub(r"\$(\w+)", lambda name: environment.get(name[1], "there"), runs)
    (command,) = re.findall(r"longtail (retrain[^|\n]*) \|\|", filled)
    arguments = build_parser().parse_args(shlex.split(command))
    assert (ROOT / arguments.config).is_file()
    assert (ROOT / arguments.data).is_file()


class Runner:
    """A step's script in the shell that GitHub starts, with stand-ins for what it calls."""

    def __init__(self, folder):
        self.folder, self.files = folder, {}
        for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
            self.files[name] = folder / name
            self.files[name].touch()
        (folder / "bin").mkdir()

    def stand_in(self, name, script):
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IEXEC)

    def run(self, step, **environment):
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        files = {name: str(one) for name, one in self.files.items()}
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.folder, check=False, capture_output=True, text=True, timeout=60,
            env={**os.environ, **files, **environment, "PATH": path},
        )  # fmt: skip


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


def named(workflow, name):
    (step,) = [step for step in steps(FOLDER / "github" / workflow) if step.get("name") == name]
    return step


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (3, 0), (1, 1), (2, 2)])
def test_the_gates_exit_code_is_handed_on_and_an_error_is_one(runner, code, ends):
    runner.stand_in("longtail", f"mkdir -p run; echo '## Blocked' > run/verdict.md; exit {code}")
    done = runner.run(named("gate-check.yml", "Retrain and judge"), CONFIG="c", DATA="d")

    assert done.returncode == ends
    assert runner.files["GITHUB_OUTPUT"].read_text() == f"code={code}\n"
    told = runner.files["GITHUB_STEP_SUMMARY"].read_text()
    assert told == ("## Blocked\n" if ends == 0 else "")


def test_a_block_fails_the_check(runner):
    done = runner.run(named("gate-check.yml", "Blocked"))
    assert (done.returncode, "::error" in done.stdout) == (3, True)


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (3, 0), (1, 1)])
def test_a_smoke_run_that_works_may_be_blocked(runner, code, ends):
    runner.stand_in("longtail", f"exit {code}")
    done = runner.run(named("retrain-smoke.yml", "Retrain"), RUNNER_TEMP=str(runner.folder))
    assert done.returncode == ends


@pytest.mark.parametrize(
    ("there", "asked"), [("", "--method POST a/comments"), ("77", "--method PATCH c/77")]
)
def test_one_comment_is_made_and_then_brought_up_to_date(runner, there, asked):
    runner.stand_in("gh", f'echo "$@" >> asked; case "$*" in *--paginate*) echo "{there}";; esac')
    (runner.folder / "verdict.md").write_text("## Blocked `$(id)`\n" * 9000, encoding="utf-8")
    step = named("gate-check.yml", "One comment, brought up to date")
    done = runner.run(step, COMMENTS="a/comments", COMMENT="c", RUN="http://run")

    assert done.returncode == 0, done.stderr
    body = (runner.folder / "body.md").read_text(encoding="utf-8")
    assert body.startswith("<!-- longtail gate-check -->\n## Blocked `$(id)`\n")
    assert body.endswith("(http://run)\n")
    assert len(body) < 65_536
    searched, sent = (runner.folder / "asked").read_text().splitlines()
    assert 'startswith("<!-- longtail gate-check -->")' in searched
    assert sent == f"api --silent {asked} --field body=@body.md"
