"""Where independent tasks of a flow run: in its own process, or on dask or ray workers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from flows.config import RunnerSettings
from flows.runtime import prepare_environment
from longtail.errors import ConfigError

_PACKAGES = {"dask": "prefect_dask", "ray": "prefect_ray"}


def run_each(
    settings: RunnerSettings, work: Any, calls: Sequence[tuple[Any, ...]]
) -> list[Any | ConfigError]:
    """Run a task once for every set of arguments.

    Args:
        settings: where, and how many at a time.
        work: the task.
        calls: positional arguments.

    Returns:
        What each call returned, in the calls' order; a ConfigError stands in its place, so that
        one call's does not keep the others from running.

    Raises:
        ConfigError: the package of the runner is not installed.
    """
    if not calls:
        return []
    if settings.kind == "threads" and settings.workers == 1:
        return [_outcome(partial(work, *call)) for call in calls]
    return _submitted(settings, work, calls)


def build_runner(settings: RunnerSettings) -> Any:
    """Prefect's task runner, not yet started.

    Raises:
        ConfigError: its package is not installed.
    """
    prepare_environment()  # ray reads its switch for telemetry when it is imported
    package = _PACKAGES.get(settings.kind)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"runner.kind is {settings.kind}, but {package} is not installed: pip install "
            f"'longtail[{settings.kind}]', or take runner.kind=threads"
        )
    return {"threads": _threads, "dask": _dask, "ray": _ray}[settings.kind](settings)


def _submitted(
    settings: RunnerSettings, work: Any, calls: Iterable[tuple[Any, ...]]
) -> list[Any | ConfigError]:
    from prefect.utilities.callables import get_call_parameters

    with build_runner(settings) as runner, _gpus(settings):
        futures = [
            runner.submit(work, parameters=get_call_parameters(work.fn, call, {}))
            for call in calls
        ]  # fmt: skip
        return [_outcome(future.result) for future in futures]


def _outcome(run: Callable[[], Any]) -> Any | ConfigError:
    try:
        return run()
    except ConfigError as error:
        return error


def _threads(settings: RunnerSettings) -> Any:
    from prefect.task_runners import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner(max_workers=settings.workers)


def _dask(settings: RunnerSettings) -> Any:
    import dask
    from prefect_dask.task_runners import DaskTaskRunner

    if settings.address is not None:
        return DaskTaskRunner(address=settings.address)
    # A daemonic worker may have no children, and training may take several processes.
    dask.config.set({"distributed.worker.daemon": False})
    cluster = {
        "n_workers": settings.workers,
        "threads_per_worker": 1,  # training seeds the process's one generator
        "processes": True,
        "dashboard_address": None,
        "memory_limit": 0,  # by default a worker that trains a large model is killed and restarted
    }
    return DaskTaskRunner(cluster_kwargs=cluster)


def _ray(settings: RunnerSettings) -> Any:
    from prefect_ray import RayTaskRunner

    if settings.address is not None:
        return RayTaskRunner(address=settings.address)
    return RayTaskRunner(
        init_kwargs={"num_cpus": settings.workers, "include_dashboard": False}
    )  # fmt: skip


def _gpus(settings: RunnerSettings) -> Any:
    """Ray hides the GPUs from a task that asks for none."""
    import contextlib

    if settings.kind != "ray" or not settings.gpus:
        return contextlib.nullcontext()
    from prefect_ray.context import remote_options

    return remote_options(num_gpus=settings.gpus)
