#!/bin/bash
# The RPM packages in build/rpm: rpmlint is silent, what is in them is in the
# Debian packages too, and their scripts are good shell.
set -euo pipefail

echo "== rpmlint"
rpmlint -c packaging/rpmlint.toml build/rpm/*.rpm packaging/sesrelayd.spec |
	tee build/rpm/rpmlint.log | sed -n '/: [EW]: /p'
grep -q ' 0 errors, 0 warnings' build/rpm/rpmlint.log

echo "== the same files as in the Debian package"
# Debian's places differ for units, pages are compressed, LICENSE is copyright.
places() {
	sed -E 's,^\.?/?,/,; s,^/lib/systemd,/usr/lib/systemd,; s,\.gz$,,' |
		grep -vE '/$|/(changelog|copyright|LICENSE|README.Debian)$|/\.build-id' |
		sort
}
main=$(ls build/rpm/sesrelayd-[0-9]*.x86_64.rpm 2>/dev/null ||
	ls build/rpm/sesrelayd-[0-9]*."$(uname -m)".rpm)
diff <(dpkg-deb --fsys-tarfile build/deb/sesrelayd_*.deb | tar -tf - | places) \
	<(rpm -qp --qf '[%{FILEMODES:perms} %{FILENAMES}\n]' "$main" |
		sed -n 's/^-[^ ]* //p' | places)

echo "== the scripts of installation and removal"
for package in build/rpm/sesrelayd-*[0-9].*[!c].rpm build/rpm/sesrelayd-mta-*.rpm; do
	rpm -qp --scripts "$package" | sed 's/^[a-z]* scriptlet.*/#/' | sh -n
done
rpm -qp --qf '[%{FILENAMES} %{FILEFLAGS:fflags}\n]' "$main" |
	grep -qx '/etc/sesrelayd/sesrelayd.conf cn'
echo "packages: the RPM packages are good"
