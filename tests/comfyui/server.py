"""A real ComfyUI server with the node pack in it, and a client for it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACK = ROOT / "apps" / "comfyui"


class Server:
    """A server with folders of its own, which runs until it is closed."""

    def __init__(self, folder: Path) -> None:
        for name in ("custom_nodes", "user", "input", "output", "temp", "models"):
            (folder / name).mkdir(parents=True)
        for name, pack in {"vsf": PACK, "models": Path(__file__).with_name("model_nodes")}.items():
            (folder / "custom_nodes" / name).symlink_to(pack)
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        arguments = [
            "--cpu", "--use-pytorch-cross-attention", "--base-directory", str(folder), "--disable-api-nodes",
            "--listen", "127.0.0.1", "--port", self.url.rsplit(":", 1)[1],
            "--cache-none",  # a picture that is asked for again is drawn again
        ]  # fmt: skip
        launch = [sys.executable, str(Path(__file__).with_name("launch.py")), os.environ["COMFYUI_PATH"], *arguments]
        paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        self.log = folder / "log.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(launch, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": paths})
        self._wait_until_it_answers()

    def _wait_until_it_answers(self, seconds: float = 500) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended:\n{self.log.read_text()[-3000:]}")
            try:
                self.call("/system_stats")
            except urllib.error.URLError:
                time.sleep(0.3)
            else:
                return
        raise RuntimeError(f"the server does not answer:\n{self.log.read_text()[-3000:]}")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def call(self, path: str, data=None):
        """Return the JSON of the server's answer."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def queue(self, flow: dict) -> str:
        """Queue a workflow in API form and return its id."""
        return self.call("/prompt", {"prompt": flow})["prompt_id"]

    def wait(self, number: str, seconds: float = 120) -> dict:
        """Wait for the end of a workflow and return its entry in the history."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            history = self.call(f"/history/{number}")
            if number in history:
                return history[number]
            time.sleep(0.1)
        raise RuntimeError("the workflow does not end")

    def run(self, flow: dict) -> dict:
        """Run a workflow to its end and return its outputs by node; raise RuntimeError if a node raised."""
        history = self.wait(self.queue(flow))
        for kind, message in history["status"]["messages"]:
            if kind == "execution_error":
                raise RuntimeError(
                    f"{message['node_type']}: {message['exception_type']}: {message['exception_message']}"
                )
        return history["outputs"]

    def picture(self, flow: dict) -> bytes:
        """Run a workflow and return the file of the picture that it saves."""
        for output in self.run(flow).values():
            for image in output.get("images", ()):
                if image["type"] == "output":
                    return (self.folder / "output" / image["subfolder"] / image["filename"]).read_bytes()
        raise RuntimeError("there is no picture")
