"""The installed distribution: what importing it loads, and its public names."""

import subprocess
import sys

import jobq_core


def test_importing_it_loads_no_module_that_only_some_users_need() -> None:
    script = "import sys, jobq_core; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    seldom = {"click", "hashlib", "importlib.metadata", "jobq_core.memory", "jobq_core.testing", "json", "urllib.parse"}
    assert seldom.isdisjoint(modules)


def test_only_classes_that_convert_or_hide_fields_are_made_by_attrs() -> None:
    # attrs compiles methods for each class; a struct costs almost nothing.
    script = """
import sys, attrs, jobq_core
modules = [module for name, module in sys.modules.items() if name.startswith("jobq_core")]
classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
print(*sorted(cls.__name__ for cls in classes if attrs.has(cls)))
"""
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert made.split() == ["Backoff", "JobDefinition", "JobFilter", "Retention", "RetryPolicy"]


def test_the_types_of_the_public_interface_can_be_imported_from_jobq_core() -> None:
    # A limiter returns Grants, `find` a Page, WorkerLost contains RescuedJobs.
    assert {"Grant", "Page", "RescuedJob"} <= set(jobq_core.__all__)
    assert all(hasattr(jobq_core, name) for name in jobq_core.__all__)
