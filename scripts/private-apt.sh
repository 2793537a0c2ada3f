# shellcheck shell=bash
# Packages of other Debian suites, unpacked beside the system instead of installed. Source this file.
#
# Each suite gets an apt configuration of its own under the cache directory, so the machine's sources,
# package lists and installed packages stay as they are. The mirror is the one that the machine already
# uses; the packages' signatures are checked against Debian's own keys.

SLUICE_CACHE=${SLUICE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}

private_apt_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# private_apt_lock NAME: hold the cache's lock NAME until this shell ends. Whoever waits for it finds the
# work done, so ask whether there is anything to do only after this.
private_apt_lock() {
  mkdir -p "$SLUICE_CACHE"
  # The descriptor is meant to stay open: it is the lock.
  exec {private_apt_lock_fd}>"$SLUICE_CACHE/$1.lock"
  flock "$private_apt_lock_fd"
}

# private_apt_mirror SUITE: print the URI of the machine's mirror that has SUITE.
private_apt_mirror() {
  local kind='^[a-z]+$' uri
  # Security updates are an archive of their own, with a directory of its own on a mirror.
  [[ $1 == *-security ]] && kind='-security$'
  # Also where the machine's sources name what it has fetched no lists of yet: these know the suite by its name in the sources.
  # shellcheck disable=SC2016 # apt replaces these, not the shell
  uri=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(REPO_URI) $(COMPONENT)' 'Created-By: Packages' |
    awk -v kind="$kind" '$1 ~ kind && $3 == "main" && $2 ~ /debian/ { print $2; exit }')
  if [[ -z $uri ]]; then
    echo "private-apt: apt's sources on this machine name no Debian mirror for $1" >&2
    return 1
  fi
  printf '%s\n' "$uri"
}

# private_apt_update SUITE: fetch the suite's package lists.
private_apt_update() {
  local suite=$1 home=$SLUICE_CACHE/apt/$1 mirror
  mirror=$(private_apt_mirror "$suite") || return
  if [[ ! -e $private_apt_keyring ]]; then
    echo "private-apt: $private_apt_keyring is missing; the package debian-archive-keyring has it" >&2
    return 1
  fi
  mkdir -p "$home"/{lists,archives}/partial
  echo "deb [signed-by=$private_apt_keyring] $mirror $suite main" >"$home/sources.list"
  private_apt "$suite" apt-get -qq update >&2
}

# private_apt SUITE COMMAND...: run an apt command that knows of this suite alone.
private_apt() {
  local home=$SLUICE_CACHE/apt/$1 command=$2
  shift 2
  # Sandbox::User: apt's unprivileged user cannot reach a cache directory inside a home directory.
  "$command" -o Dir::Etc::SourceList="$home/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
    -o Dir::State="$home" -o Dir::State::Lists="$home/lists" -o Dir::State::status=/dev/null \
    -o Dir::Cache="$home" -o Dir::Cache::Archives="$home/archives" \
    -o APT::Sandbox::User= -o APT::Get::List-Cleanup=false -o Acquire::Retries=2 -o Acquire::Languages=none "$@"
}

# private_apt_unpack SUITE DIRECTORY PACKAGE...: fetch packages and unpack them into DIRECTORY.
private_apt_unpack() {
  local suite=$1 directory=$2 downloads deb
  shift 2
  mkdir -p "$directory"
  downloads=$(mktemp -d "$directory/.debs.XXXXXX")
  (cd "$downloads" && private_apt "$suite" apt-get -qq download "$@" >&2) || return
  for deb in "$downloads"/*.deb; do
    dpkg-deb -x "$deb" "$directory" || return
  done
  rm -r "$downloads"
}
