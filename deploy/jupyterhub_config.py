"""JupyterHub for a workshop in one room, on one machine (Linux or macOS).

    make install
    .venv/bin/python -m pip install -e ".[hub]"
    COURSE_PASSWORD=choose-a-long-one .venv/bin/jupyterhub -f deploy/jupyterhub_config.py

Learners open http://THIS-MACHINE:8000, type any name of their own and the password, and find a copy
of the notebooks. What they do stays in COURSE_HUB_FOLDER (`build/hub`), one folder a name, and is
found again under the same name. Stop it with Ctrl-C.

For a room of people who trust each other: all servers run as the user who starts the hub, and what
is typed goes over the network as it is. On the open internet use a hub with real accounts and TLS;
its documentation shows how (Spawner, Authenticator, ssl_key).

Settings, as environment variables:
    COURSE_PASSWORD     at least 8 characters; needed
    COURSE_HUB_ADDRESS  http://:8000
    COURSE_HUB_FOLDER   build/hub
    COURSE_HUB_LEARNERS how many compute at the same time: each gets its share of the cores (10)
"""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HUB = Path(os.environ.get("COURSE_HUB_FOLDER", ROOT / "build" / "hub")).resolve()
password = os.environ.get("COURSE_PASSWORD", "")
if len(password) < 8:
    sys.exit(f"COURSE_PASSWORD has {len(password)} characters; set it to 8 or more")
HUB.mkdir(parents=True, exist_ok=True)
threads = max(1, (os.cpu_count() or 1) // int(os.environ.get("COURSE_HUB_LEARNERS", "10")))


def bring_notebooks(spawner):
    """Give a learner the notebooks that they do not have yet; nothing of theirs is overwritten."""
    home = HUB / "homes" / spawner.user.name
    (home / "notebooks").mkdir(parents=True, exist_ok=True)
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        own = home / "notebooks" / notebook.name
        if not own.exists():
            shutil.copy(notebook, own)
    spawner.environment["COURSE_JOURNAL"] = str(home / "journal.jsonl")


c = get_config()  # noqa: F821 - JupyterHub puts it here
c.JupyterHub.bind_url = os.environ.get("COURSE_HUB_ADDRESS", "http://:8000")
c.JupyterHub.db_url = f"sqlite:///{HUB / 'jupyterhub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(HUB / "cookie_secret")
c.ConfigurableHTTPProxy.pid_file = str(HUB / "proxy.pid")
c.ConfigurableHTTPProxy.command = [
    str(Path(sys.executable).parent / "configurable-http-proxy"),
    "--proxy-timeout=600000",  # milliseconds; by default 20 seconds, too few for a first start
]

c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = password
c.Authenticator.allow_all = True
c.Authenticator.username_pattern = r"[a-z][a-z0-9_-]{0,30}"

c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = str(HUB / "homes" / "{username}")
c.Spawner.cmd = [str(Path(sys.executable).parent / "jupyterhub-singleuser")]
c.Spawner.default_url = "/lab/tree/notebooks/00_start_here.ipynb"
c.Spawner.environment = {"OMP_NUM_THREADS": str(threads)}
c.Spawner.pre_spawn_hook = bring_notebooks
c.Spawner.start_timeout = 120
c.Spawner.http_timeout = 120
