"""What pip asks of a source archive's build system before it keeps the archive: its metadata.

Name and version are read from the archive itself, so that nothing else has to be installed and
none of the archive's code runs.
"""

import os


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    with open("PKG-INFO", encoding="utf-8") as file:
        header = file.read().split("\n\n", 1)[0].splitlines()
    fields = dict(line.split(": ", 1) for line in header if ": " in line)
    folder = f"{fields['Name']}-{fields['Version']}.dist-info"
    os.makedirs(os.path.join(metadata_directory, folder))
    with open(os.path.join(metadata_directory, folder, "METADATA"), "w", encoding="utf-8") as file:
        file.write("Metadata-Version: 2.1\n")
        file.write(f"Name: {fields['Name']}\nVersion: {fields['Version']}\n")
    return folder
