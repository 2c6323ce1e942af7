#!/bin/sh
# make package: gathers in package/NAME what the board needs (bitstream, weights, driver, golden data, the simulated
# device), with SHA-256 sums of all of it, and packs it into package/NAME.tar.gz.
set -eu

name=$1
cd "$(dirname "$0")/.."
fail() {
    echo "make package: $1" >&2
    exit 2
}

for file in parameters.bin image.bin expected.bin; do
    [ -f "data/$file" ] || fail "data/$file is missing; build the project up to csim (hlsgen build without --stop-after)"
done

# One bitstream with its hardware hand-off file, or a binary for XRT, or nothing of both.
one() {
    found=
    for file in export/*."$1"; do
        [ -f "$file" ] || continue
        [ -z "$found" ] || fail "export/ expected one .$1 file, it holds $found and $file; remove all but one"
        found=$file
    done
    echo "$found"
}
bit=$(one bit)
hwh=$(one hwh)
xclbin=$(one xclbin)
[ -n "$bit" ] && [ -z "$hwh" ] && fail "$bit expected its hardware hand-off file export/*.hwh, there is none"
[ -z "$bit" ] && [ -n "$hwh" ] && fail "$hwh expected its bitstream export/*.bit, there is none"

mkdir -p package
part=package/.$name.part
rm -rf "$part"
trap 'rm -rf "$part"' EXIT
mkdir -p "$part/hlsgen_driver" "$part/golden" "$part/sim" "$part/xrt"
cp driver/*.py driver/network.json driver/README.md "$part"
cp driver/hlsgen_driver/*.py "$part/hlsgen_driver"
cp driver/xrt/*.h driver/xrt/*.cpp driver/xrt/Makefile src/config.h tb/tensors.h "$part/xrt"
cp data/parameters.bin "$part"
cp data/image.bin data/expected.bin "$part/golden"
cp build/libhlsgen_sim.so "$part/sim/libhlsgen_sim-$(uname -m).so"
if [ -f pictures/input.png ]; then cp pictures/input.png "$part/example.png"; fi
if [ -n "$bit" ]; then cp "$bit" "$part/hlsgen.bit" && cp "$hwh" "$part/hlsgen.hwh"; fi
if [ -n "$xclbin" ]; then cp "$xclbin" "$part/hlsgen.xclbin"; fi

(cd "$part" && find . -type f ! -name SHA256SUMS | LC_ALL=C sort | sed 's|^\./||' | while read -r file; do
    sha256sum "$file"
done > SHA256SUMS)
rm -rf "package/$name"
mv "$part" "package/$name"
tar -C package --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - "$name" | gzip -n > "package/$name.tar.gz"

echo "package   package/$name"
echo "archive   package/$name.tar.gz"
if [ -z "$bit$xclbin" ]; then
    echo "note      export/ holds no bitstream yet: this package runs with --device sim only"
fi
