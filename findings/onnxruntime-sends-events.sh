#!/bin/sh
# Expected: a library that runs networks on this machine opens no connection and writes nothing outside of what it is given;
# if it had telemetry, its own function `disable_telemetry_events` would stop it.
# Happens: the wheel for Linux keeps events of the process in ~/.cache/Microsoft/DeveloperTools/.onnxruntime from its import
# on, marks a session in the temporary folder (.ses), and asks for mobile.events.data.microsoft.com (seen with strace, not
# tried here). Called after the import, `disable_telemetry_events` comes too late for what is told of the start;
# ORT_DISABLE_TELEMETRY=1 before the import keeps it from all three.
# Met in: p3mdata/base/quiet.py, which sets the variable before each import.
# Seen with onnxruntime 1.32.0 on Linux x86-64, Python 3.11:
#   as it comes:              notes 1, mark 1
#   disabled by its function: notes 1, mark 1
#   by the variable:          notes 0, mark 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 || exit 2
try() {
  rm -rf "$folder/home" "$folder/tmp"
  mkdir "$folder/home" "$folder/tmp"
  env HOME="$folder/home" TMPDIR="$folder/tmp" "$@" > /dev/null 2>&1 || exit 2
  notes=$(find "$folder/home" -name onnxruntime.db | wc -l)
  marks=$(find "$folder/tmp" -name .ses | wc -l)
  echo "notes $((notes)), mark $((marks))"
}
"$folder/env/bin/pip" list 2>/dev/null | grep -i "^onnxruntime "
plain=$(try "$folder/env/bin/python" -c "import onnxruntime, time; time.sleep(2)")
function=$(try "$folder/env/bin/python" -c "import onnxruntime, time; onnxruntime.disable_telemetry_events(); time.sleep(2)")
variable=$(try env ORT_DISABLE_TELEMETRY=1 "$folder/env/bin/python" -c "import onnxruntime, time; time.sleep(2)")
echo "as it comes:              $plain"
echo "disabled by its function: $function"
echo "by the variable:          $variable"
[ "$plain" = "notes 1, mark 1" ] || { echo "changed: it keeps no events any more"; exit 1; }
[ "$variable" = "notes 0, mark 0" ] || { echo "changed: the variable does not stop it"; exit 1; }
