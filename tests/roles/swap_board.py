"""A board as a root tree, with what systemd and the swap tools do to it.

The vendors' files and their behaviour are reproductions: of rpi-swap 1.2 (its generator and swap.conf), of Debian's
dphys-swapfile 20100506 and of zram-generator 1.1.2. They are written from what those packages do, not copied.
"""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

MIB = 1024 * 1024
MEMORY_MB = 430
HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
TOOLS = ("rpi-swap", "dphys", "zram-generator")


class TwoAtOnceError(AssertionError):
    """Two mechanisms swapped at the same moment."""


class KilledError(RuntimeError):
    """The run died here."""


class TreeBoard:
    """A board below a folder: files as on its card, `/proc` and `/sys` as its kernel shows them."""

    def __init__(self, root: Path, tools: Iterable[str] = (), *, available_mb: int = 300) -> None:
        """Make a board with `tools` installed, as their packages leave it."""
        self.root = root
        self.available_mb = available_mb
        self.dies_at: int | None = None
        self.commands: list[list[str]] = []
        self.busy_resets = 0
        """How often udev still reads a zram device when somebody wants to reset it."""
        self.stuck: set[str] = set()
        for folder in ("proc", "etc/systemd/system", "run", "var/lib", "dev", "sys/fs/cgroup"):
            (root / folder).mkdir(parents=True)
        self.write("etc/fstab", "LABEL=ROOT / ext4 defaults 0 1\n")
        self.write("proc/mounts", "/dev/mmcblk0p2 / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n")
        for name, value in {"enabled": "N", "max_pool_percent": "20", "compressor": "lzo"}.items():
            self.write(f"sys/module/zswap/parameters/{name}", value)
        for tool in tools:
            self.install(tool)

    def write(self, path: str, text: str) -> None:
        """Write a file of the tree."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    def link(self, path: str, target: str) -> None:
        """Make a link of the tree."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(target)

    def install(self, tool: str) -> None:
        """Put the files of a tool in place."""
        if tool == "rpi-swap":
            self.write("usr/lib/systemd/system-generators/rpi-swap-generator", "")
            self.write("etc/rpi/swap.conf", "[Main]\n#Mechanism=auto\n\n[File]\n#Path=/var/swap\n\n[Zram]\n")
            self.write(
                "usr/lib/systemd/zram-generator.conf.d/20-rpi-swap-zram0-ctrl.conf",
                "[zram0]\nhost-memory-limit=0\nfs-type=none\n",
            )
            self.install("zram-generator")
        elif tool == "dphys":
            self.write("sbin/dphys-swapfile", "")
            self.write("etc/dphys-swapfile", "# CONF_SWAPFILE=/var/swap\nCONF_SWAPSIZE=20\nCONF_MAXSWAP=2048\n")
            self.write("lib/systemd/system/dphys-swapfile.service", "[Install]\nWantedBy=multi-user.target\n")
            self.link(
                "etc/systemd/system/multi-user.target.wants/dphys-swapfile.service",
                "/lib/systemd/system/dphys-swapfile.service",
            )
        else:
            self.write("usr/lib/systemd/system-generators/zram-generator", "")
            self.write("etc/systemd/zram-generator.conf", "# size: half of the RAM\n[zram0]\n")

    # -- what the kernel shows ---------------------------------------------------------------------

    @property
    def areas(self) -> dict[str, int]:
        """MB by path of what the board swaps to."""
        lines = (self.root / "proc/swaps").read_text("utf-8").splitlines()[1:]
        return {line.split()[0]: -(-int(line.split()[2]) // 1024) for line in lines}

    def swap_on(self, path: str, size_mb: int, used_mb: int = 0) -> None:
        """Add an area, as swapon does."""
        kind = "partition" if path.startswith("/dev") else "file"
        with (self.root / "proc/swaps").open("a", encoding="utf-8") as file:
            file.write(f"{path} {kind}\t{size_mb * 1024 - 4}\t{used_mb * 1024}\t-2\n")
        if len(self.areas) > 1:
            raise TwoAtOnceError(f"{' and '.join(self.areas)} after {self.commands[-3:]}")

    def swap_off(self, path: str) -> None:
        """Take an area away, as swapoff does."""
        lines = (self.root / "proc/swaps").read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.split()[0] != path or path in self.stuck]
        self.write("proc/swaps", "".join(kept))
        if path.startswith("/dev/zram") and path not in self.stuck and not self.busy_resets:
            shutil.rmtree(self.root / "sys/block" / Path(path).name)

    def fill(self, used_mb: int) -> None:
        """Swap out `used_mb` on every area."""
        text = (self.root / "proc/swaps").read_text("utf-8")
        self.write("proc/swaps", re.sub(r"\t0\t", f"\t{used_mb * 1024}\t", text))

    @property
    def zswap(self) -> bool:
        """Whether zswap is on."""
        return (self.root / "sys/module/zswap/parameters/enabled").read_text("ascii").strip() == "Y"

    @property
    def mechanism(self) -> str:
        """How the board swaps, told by someone who knows the tools and not our code."""
        if not self.areas:
            return "none"
        (path,) = self.areas
        if path == "/dev/zram0":
            return "rpi-swap" if (self.root / "sys/block/zram0/backing_dev").exists() else "zram"
        if path == "/var/swap":
            return "dphys"
        return "zswap" if self.zswap else "file"

    @property
    def zram_limit_mb(self) -> int:
        """The bound of zram's RAM."""
        return int((self.root / "sys/block/zram0/mm_stat").read_text("ascii").split()[3]) // MIB

    # -- what systemd does -------------------------------------------------------------------------

    def boot(self) -> None:
        """Start the board anew."""
        shutil.rmtree(self.root / "run")
        shutil.rmtree(self.root / "sys/block", ignore_errors=True)
        (self.root / "run").mkdir()
        self.write("proc/swaps", HEADER)
        self.write("proc/meminfo", f"MemTotal: {MEMORY_MB * 1024} kB\nMemAvailable: {self.available_mb * 1024} kB\n")
        self.write("sys/module/zswap/parameters/enabled", "N")
        self.generate()
        for line in self._read("etc/tmpfiles.d/pinch-swap.conf").splitlines():
            if line.startswith("w "):
                self.write(line.split()[1].lstrip("/"), line.split()[-1])
        self.pull()
        for line in self._read("etc/fstab").splitlines():
            if " swap " in line:
                self.swap_on(line.split()[0], 64)
        wants = self.root / "etc/systemd/system/multi-user.target.wants/dphys-swapfile.service"
        if wants.is_symlink() and not self.masked("dphys-swapfile.service"):
            self.start("dphys-swapfile.service")

    def generate(self) -> None:
        """Run the generators, as a boot and each `daemon-reload` do."""
        shutil.rmtree(self.root / "run/systemd/generator", ignore_errors=True)
        if (self.root / "usr/lib/systemd/system-generators/rpi-swap-generator").exists():
            self._rpi_generator()
        if (self.root / "usr/lib/systemd/system-generators/zram-generator").exists():
            zram = self._zram_config()
            size = zram.get("zram-size", str(MEMORY_MB // 2))
            off = zram.get("host-memory-limit", "none") != "none" or zram.get("fs-type", "swap") != "swap"
            unit = self.root / "run/systemd/generator/dev-zram0.swap"
            if zram.get("section") and int(size) and not off and not unit.exists():
                self.write("run/systemd/generator/dev-zram0.swap", "# by zram-generator\n")

    def _rpi_generator(self) -> None:
        config = self._layered("rpi/swap.conf", ("usr/lib", "etc"))
        mechanism = config.get("Main", "Mechanism", fallback="auto")
        path = config.get("File", "Path", fallback="/var/swap")
        if mechanism == "none":
            (self.root / path.lstrip("/")).unlink(missing_ok=True)
            return
        size = config.get("Zram", "FixedSizeMiB", fallback=str(MEMORY_MB))
        live = "run/systemd/zram-generator.conf.d/20-rpi-swap-zram0-ctrl.conf"
        loop = "/dev/disk/by-backingfile/var-swap"
        self.write(live, f"[zram0]\nhost-memory-limit=none\nfs-type=swap\nzram-size={size}\nwriteback-device={loop}\n")
        self.write("run/systemd/generator/dev-zram0.swap", "# rpi-swap managed\n")

    def pull(self) -> None:
        """Start what `swap.target` wants, as systemd does with any unit that is started after a reload."""
        wants = [link.name for link in sorted((self.root / "etc/systemd/system/swap.target.wants").glob("*.swap"))]
        if (self.root / "run/systemd/generator/dev-zram0.swap").exists():
            wants.append("dev-zram0.swap")
        for unit in wants:
            self.start(unit)

    def someone_starts_a_service(self) -> None:
        """Reload systemd and start a unit that has nothing to do with swap."""
        self.generate()
        self.pull()

    def start(self, unit: str) -> None:
        """Start a unit, unless a condition of it does not hold or it is active."""
        if not all(self._holds(condition) for condition in self._conditions(unit)):
            return
        if unit == "dev-zram0.swap":
            self._start_zram()
        elif unit == "dphys-swapfile.service":
            self._start_dphys()
        else:
            text = self._read(f"etc/systemd/system/{unit}")
            path = re.findall(r"^What=(.+)$", text, re.MULTILINE)[0]
            if path not in self.areas:
                self.swap_on(path, self._sized(path))

    def _start_zram(self) -> None:
        if "/dev/zram0" in self.areas:
            return
        zram = self._zram_config()
        assert (self.root / "run/systemd/generator/dev-zram0.swap").exists(), "there is no dev-zram0.swap to start"
        assert self._read("sys/block/zram0/disksize") in {"", "0"}, "Cannot change disksize for initialized device"
        self.write("sys/block/zram0/disksize", "1")
        setup = self._read("etc/systemd/system/systemd-zram-setup@zram0.service.d/90-pinch.conf")
        limit = re.findall(r"echo (\d+)M > /sys/block/zram0/mem_limit", setup)
        self.write("sys/block/zram0/mm_stat", f"0 0 0 {int(limit[0]) * MIB if limit else 0} 0 0 0 0 0\n")
        chosen = zram.get("compression-algorithm", "lzo-rle")
        self.write(
            "sys/block/zram0/comp_algorithm", " ".join(f"[{n}]" if n == chosen else n for n in ("lzo-rle", "lz4"))
        )
        self.write("sys/block/zram0/mem_limit", "")
        if "writeback-device" in zram:
            self.write("sys/block/zram0/backing_dev", "/dev/loop0\n")
            self._make("/var/swap", 16)
        self.swap_on("/dev/zram0", int(zram.get("zram-size", str(MEMORY_MB // 2))))

    def _start_dphys(self) -> None:
        script = f". {self.root}/etc/dphys-swapfile; echo ${{CONF_SWAPFILE:-/var/swap}} $CONF_SWAPSIZE"
        path, size = subprocess.check_output(["/bin/sh", "-c", script], text=True).split()
        if path in self.areas:
            return
        file = self.root / path.lstrip("/")
        if not file.exists() or file.stat().st_size != int(size) * MIB:
            self._make(path, int(size))
        self.swap_on(path, int(size))

    def _make(self, path: str, size_mb: int) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as content:
            content.truncate(size_mb * MIB)
        subprocess.run(["mkswap", "-q", str(file)], check=True, capture_output=True)

    def _sized(self, path: str) -> int:
        return (self.root / path.lstrip("/")).stat().st_size // MIB

    def stop(self, unit: str) -> None:
        """Stop a unit and with it the area behind it."""
        areas = {_unit(path): path for path in self.areas}
        dphys = {"dphys-swapfile.service": "/var/swap"} if "/var/swap" in self.areas else {}
        path = (areas | dphys).get(unit)
        if path:
            self.swap_off(path)

    def masked(self, unit: str) -> bool:
        """Whether a unit is out of reach."""
        link = self.root / "etc/systemd/system" / unit
        return link.is_symlink() and str(link.readlink()) == "/dev/null"

    def _conditions(self, unit: str) -> Iterator[str]:
        files = [self.root / f"etc/systemd/system/{unit}"]
        files += sorted((self.root / f"etc/systemd/system/{unit}.d").glob("*.conf"))
        for file in files:
            if file.is_file():
                yield from re.findall(r"^ConditionPathExists=(.+)$", file.read_text("utf-8"), re.MULTILINE)

    def _holds(self, condition: str) -> bool:
        absent = condition.startswith("!")
        return (self.root / condition.lstrip("!/")).exists() is not absent

    def _zram_config(self) -> dict[str, str]:
        config = self._layered("systemd/zram-generator.conf", ("usr/lib", "run", "etc"))
        return {**config["zram0"], "section": "yes"} if config.has_section("zram0") else {}

    def _layered(self, name: str, folders: tuple[str, ...]) -> configparser.ConfigParser:
        config = configparser.ConfigParser(strict=False, allow_no_value=True)
        config.optionxform = lambda option: option  # type: ignore[assignment, method-assign]
        main = [self.root / folder / name for folder in reversed(folders) if (self.root / folder / name).exists()]
        parts: dict[str, Path] = {}
        for folder in ("usr/lib", "etc", "run"):
            parts |= {file.name: file for file in (self.root / folder / f"{name}.d").glob("*.conf")}
        config.read([*main[:1], *(parts[part] for part in sorted(parts))])
        return config

    def _read(self, path: str) -> str:
        file = self.root / path
        return file.read_text("utf-8") if file.is_file() else ""

    # -- what the run does -------------------------------------------------------------------------

    def run(self, command: list[str]) -> tuple[int, str]:
        """Run what the role runs."""
        self.commands.append(command)
        if self.dies_at is not None and len(self.commands) > self.dies_at:
            raise KilledError(str(command))
        match command:
            case ["systemctl", verb, *units]:
                return self._systemctl(verb, units)
            case ["swapoff", path]:
                self.swap_off(path)
                stuck = path in self.stuck
                return (255, f"swapoff: {path}: swapoff failed: Cannot allocate memory") if stuck else (0, "")
            case ["zramctl", "--reset", "/dev/zram0"]:
                assert "/dev/zram0" not in self.areas
                if self.busy_resets:
                    self.busy_resets -= 1
                    return 1, "zramctl: /dev/zram0: failed to reset: Device or resource busy"
                self.write("sys/block/zram0/disksize", "0")
                return 0, ""
            case ["mkswap", path]:
                done = subprocess.run(["mkswap", path], capture_output=True, text=True, check=False)
                return done.returncode, done.stderr
        raise AssertionError(command)

    def _systemctl(self, verb: str, units: list[str]) -> tuple[int, str]:
        if verb == "daemon-reload":
            self.generate()
        if verb == "start":
            self.pull()
        for unit in units:
            if verb == "start" and self.masked(unit):
                return 1, f"Unit {unit} is masked."
            (self.start if verb == "start" else self.stop)(unit)
        return 0, ""


def _unit(path: str) -> str:
    return path.strip("/").replace("-", "\\x2d").replace("/", "-") + ".swap"
