#!/usr/bin/env bash
# An image, its map as PNG and as JSON, and several images at once.
set -euo pipefail
server=${PATCHLIGHT:-http://localhost:8080}
folder=$(mktemp -d)

# The file is the body; what it is, its bytes say. --fail-with-body makes an error an exit status.
curl --silent --show-error --fail-with-body --data-binary @models/samples/penguin.jpg \
  "$server/classify?top_k=3" | tee "$folder/answer.json"
echo

# `url` is where the map is.
map=$server$(sed 's/.*"url":"\([^"]*\)".*/\1/' "$folder/answer.json")
curl --silent --show-error --fail-with-body --output "$folder/map.png" "$map"
curl --silent --show-error --fail-with-body "$map?format=json" | cut -c -300
echo "the map is in $folder/map.png"

# Up to 16 images in one request: {"results": […]} in their order, a bad one spoils none.
curl --silent --show-error --fail-with-body \
  -F image=@models/samples/dog.jpg -F image=@models/samples/rocket.jpg "$server/classify?attention=none"
echo
