from __future__ import annotations

from pinch_image.bootstrap import archive_names

PRINTED = """\
Reading package lists...
The following NEW packages will be installed:
  bsdutils login
'http://mirror.example/debian/pool/main/u/util-linux/bsdutils_2.38.1-5%2bdeb12u3_arm64.deb' \
bsdutils_1%3a2.38.1-5+deb12u3_arm64.deb 85296 SHA256:00
'http://mirror.example/debian/pool/main/s/shadow/login_4.13_arm64.deb' login_1%3a4.13_arm64.deb 611032 SHA256:11
"""


def test_only_the_archives_of_the_plan_get_into_an_image_not_those_kept_from_another_build() -> None:
    assert archive_names(PRINTED) == {"bsdutils_1%3a2.38.1-5+deb12u3_arm64.deb", "login_1%3a4.13_arm64.deb"}
