"""The worked example of docs/profiles.md as a folder: a profile as a team writes it for an application of its own."""

import re
import shutil
from pathlib import Path

from tests.parts.charts import CHARTS

CHAPTER = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text()
# What the chart of the example reads that the chart of tests does not.
_DATABASE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-settings}
data: {secret: "{{ .Values.database }}", nightly: "{{ .Values.nightly }}"}
"""


def write_example(folder: Path) -> None:
    """Write the example's files, its chart, and the password of its site into `folder`."""
    for name, text in re.findall(r"^```yaml\n# (\S+\.yaml)\n(.*?)^```$", CHAPTER, re.MULTILINE | re.DOTALL):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    chart = folder / "charts" / "shop"
    shutil.copytree(CHARTS / "demo-app", chart)
    metadata = (chart / "Chart.yaml").read_text()
    (chart / "Chart.yaml").write_text(metadata.replace("name: demo-app", "name: shop"))
    (chart / "templates" / "database.yaml").write_text(_DATABASE)
    (folder / "database.password").write_text("secret\n")
