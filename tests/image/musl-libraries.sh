#!/usr/bin/env bash
# Builds the C++ runtime for musl, which no package of Debian holds, and packs it with musl and busybox: the ground on
# which the stand-in for Alpine is put together (standin.ts). Everything comes from Debian's packages.
#
#   musl-libraries.sh OUT.tar SCRATCH
#
# Needs root, mmdebstrap and a mirror of Debian. SCRATCH is a folder that does not exist yet; it is removed in the end.
set -euo pipefail

readonly out=$1 scratch=$2
readonly suite=trixie gcc=14
readonly chroot=$scratch/chroot

main() {
  trap 'rm -rf "$scratch"' EXIT
  mkdir -p "$scratch"
  mmdebstrap --quiet --variant=minbase \
    --include="g++-$gcc,gcc-$gcc-source,make,xz-utils,musl-tools,musl-dev,busybox-static" "$suite" "$chroot"
  write_sources
  chroot "$chroot" /bin/bash -euo pipefail /build/build.sh "$gcc"
  pack
}

# What is compiled inside, besides GCC's own sources.
write_sources() {
  mkdir "$chroot/build"
  declare -f build_libgcc build_libstdcxx check_libraries link_musl > "$chroot/build/build.sh"
  cat >> "$chroot/build/build.sh" <<'END'
version=$1
triplet=x86_64-linux-musl
archives=/usr/lib/gcc/x86_64-linux-gnu/$version
musl=/usr/lib/$triplet
cd /build
mkdir bin source libgcc libstdcxx
for compiler in gcc g++; do
  printf '#!/bin/sh\nexec %s-%s "$@" -specs %s/musl-gcc.specs\n' "$compiler" "$version" "$musl" > "bin/$triplet-$compiler"
done
chmod +x bin/*
PATH=/build/bin:$PATH
build_libgcc
build_libstdcxx
check_libraries
END
  cat > "$chroot/build/find-object.c" <<'END'
/* The unwinder of Debian's libgcc asks glibc where an address lies; this answers it by what musl has. */
#define _GNU_SOURCE
#include <link.h>
#include <stddef.h>
struct found { unsigned long long flags; void *start, *end; struct link_map *map; void *eh_frame; unsigned long long reserved[7]; };
struct search { ElfW(Addr) address; struct found *found; };
static int visit(struct dl_phdr_info *info, size_t size, void *data) {
  struct search *search = data;
  ElfW(Addr) low = -1, high = 0;
  void *eh_frame = NULL;
  int holds_address = 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *header = &info->dlpi_phdr[i];
    ElfW(Addr) start = info->dlpi_addr + header->p_vaddr, end = start + header->p_memsz;
    if (header->p_type == PT_GNU_EH_FRAME) eh_frame = (void *)start;
    if (header->p_type != PT_LOAD) continue;
    if (start < low) low = start;
    if (end > high) high = end;
    if (search->address >= start && search->address < end) holds_address = 1;
  }
  if (!holds_address || eh_frame == NULL) return 0;
  *search->found = (struct found){ .start = (void *)low, .end = (void *)high, .eh_frame = eh_frame };
  return 1;
}
int _dl_find_object(void *address, struct found *found) {
  struct search search = { (ElfW(Addr))address, found };
  return dl_iterate_phdr(visit, &search) == 1 ? 0 : -1;
}
END
  cat > "$chroot/build/check.cc" <<'END'
// Exceptions through a thread and through the library, streams, numbers: what a half-built runtime gets wrong.
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
int main() {
  int caught = 0;
  std::thread thread([&] { try { throw std::runtime_error("thread"); } catch (const std::exception &) { caught++; } });
  thread.join();
  try { (void)std::stoi("no number"); } catch (const std::invalid_argument &) { caught++; }
  int whole = 0;
  double fraction = 0;
  std::istringstream("12 3.5") >> whole >> fraction;
  std::cout << "C++ on musl: " << caught << ' ' << whole << ' ' << fraction << std::endl;
  return caught == 2 && whole == 12 && fraction == 3.5 ? 0 : 1;
}
END
}

# Links a shared library against musl. Its specs leave --eh-frame-hdr out, without which every exception ends in abort().
link_musl() {
  local name=$1
  shift
  "$triplet-gcc" -shared -nostdlib "$musl/crti.o" "$archives/crtbeginS.o" "$@" -L"$musl" -lc "$archives/crtendS.o" \
    "$musl/crtn.o" -Wl,--eh-frame-hdr,-z,relro,-O1,--gc-sections -s -Wl,-soname,"$name" -o "/build/$name"
}

# Debian's unwinder and its arithmetic of 128 bits, whose symbols are hidden since they are for static linking: each
# gets a visible name that jumps to it.
build_libgcc() {
  cd /build/libgcc
  ar x "$archives/libgcc_eh.a"
  ar t "$archives/libgcc.a" | grep -E '^_\w+[tds]i[0-9]\.o$' | xargs ar x "$archives/libgcc.a"
  nm --defined-only -g -- *.o 2>/dev/null |
    sed -nE 's/.* T (_Unwind_\w+|__(de)?register_frame\w*|__emutls_\w+|__\w+[tds]i[0-9])$/\1/p' | sort -u > names
  sed 's/.*/& inner&/' names > renamed
  for object in *.o; do objcopy --redefine-syms=renamed "$object"; done
  sed 's/.*/.globl &\n.type &, @function\n&: jmp inner&/' names > visible.s
  printf '.section .note.GNU-stack,"",@progbits\n' >> visible.s
  "$triplet-gcc" -c visible.s -o visible.o
  "$triplet-gcc" -O2 -fPIC -c ../find-object.c -o find-object.o
  { printf '{ global:'; sed 's/$/;/' names; printf 'local: *; };\n'; } > exported
  link_musl libgcc_s.so.1 *.o "$archives/libgcc.a" -Wl,--version-script=exported
}

build_libstdcxx() {
  cd /build/source
  tar -xJf /usr/src/gcc-"$version"/gcc-*.tar.xz --strip-components=1 --wildcards \
    '*/libstdc++-v3/*' '*/libgcc/*' '*/libiberty/*' '*/libbacktrace/*' '*/include/*' '*/config/*' '*/config.*' \
    '*/config-ml.in' '*/install-sh' '*/ltmain.sh' '*/mkinstalldirs' '*/missing' '*/move-if-change' '*/symlink-tree' \
    '*/gcc/BASE-VER' '*/gcc/DEV-PHASE' '*/gcc/DATESTAMP' \
    --exclude='*/libstdc++-v3/testsuite/[0-9a-z]*_*' --exclude='*/gcc/testsuite/*'
  # Where this is missing, configure finds no threads and leaves std::thread out without a word.
  cp libgcc/gthr-posix.h libgcc/gthr-default.h
  cd /build/libstdcxx
  export CC=$triplet-gcc CXX="$triplet-g++ -nostdinc++" CFLAGS=-O1 CXXFLAGS=-O1
  ../source/libstdc++-v3/configure --build=x86_64-pc-linux-gnu --host="$triplet" --target="$triplet" --prefix=/usr \
    --disable-multilib --disable-nls --disable-libstdcxx-pch --disable-libstdcxx-filesystem-ts --disable-werror \
    --disable-static --enable-shared --enable-libstdcxx-time > configure.log
  grep -q 'gthreads library... yes' configure.log
  for part in include libsupc++ src; do make -s -j"$(nproc)" -C "$part" > "make-$part.log" 2>&1 || { tail -n 30 "make-$part.log"; return 1; }; done
  # Linked here once more: libtool's line names no libgcc.
  cd src
  link_musl libstdc++.so.6 .libs/compatibility*.o -Wl,--whole-archive ../libsupc++/.libs/libsupc++convenience.a \
    c++98/.libs/libc++98convenience.a c++11/.libs/libc++11convenience.a c++17/.libs/libc++17convenience.a \
    c++20/.libs/libc++20convenience.a -Wl,--no-whole-archive "$archives/libgcc.a" /build/libgcc_s.so.1
}

check_libraries() {
  cd /build/libstdcxx
  "$triplet-g++" -nostdinc++ -Iinclude/"$triplet" -Iinclude -I../source/libstdc++-v3/libsupc++ -std=c++17 ../check.cc \
    -Wl,--eh-frame-hdr -nodefaultlibs /build/libstdc++.so.6 /build/libgcc_s.so.1 "$archives/libgcc.a" -L"$musl" -lc \
    -o check
  LD_LIBRARY_PATH=/build ./check
}

pack() {
  local root=$scratch/root
  mkdir -p "$root/bin" "$root/lib" "$root/usr/lib"
  cp "$chroot/usr/bin/busybox" "$root/bin/busybox"
  cp "$chroot/usr/lib/x86_64-linux-musl/libc.so" "$root/lib/ld-musl-x86_64.so.1"
  ln -s ld-musl-x86_64.so.1 "$root/lib/libc.musl-x86_64.so.1"
  cp "$chroot/build/libstdc++.so.6" "$chroot/build/libgcc_s.so.1" "$root/usr/lib/"
  tar -C "$root" --owner=0 --group=0 -cf "$out" .
}

main
