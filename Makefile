# sesrelayd: GNU make, no configure step.  `make help` lists the targets.
#
# Objects go to build/<variant>/, so a release and a sanitized build live side
# by side:  make SAN=address,undefined check.  CFLAGS, CPPFLAGS and LDFLAGS of
# the caller are appended to ours, never replaced by them.

VERSION := 0.1.0

PREFIX ?= /usr/local
bindir ?= $(PREFIX)/bin
sbindir ?= $(PREFIX)/sbin
mandir ?= $(PREFIX)/share/man
docdir ?= $(PREFIX)/share/doc/sesrelayd
libexecdir ?= $(PREFIX)/libexec
sysconfdir ?= /etc
# systemd looks below /usr/local/lib as well as below /usr/lib.
unitdir ?= $(PREFIX)/lib/systemd/system
sysusersdir ?= $(PREFIX)/lib/sysusers.d
tmpfilesdir ?= $(PREFIX)/lib/tmpfiles.d
# bash-completion looks there below each of /usr and /usr/local.
completionsdir ?= $(PREFIX)/share/bash-completion/completions
INSTALL ?= install
PKG_CONFIG ?= pkg-config
SAN ?=
# Debian's, which has the pytest of Debian; there may be others in PATH.
PYTHON ?= /usr/bin/python3

# V=1 shows the whole commands.
V ?= 0
ifeq ($(V),0)
Q := @
say := @echo
else
say := @:
endif
comma := ,
ifneq ($(SAN),)
variant := san-$(subst $(comma),-,$(SAN))
else
variant := release
endif
ifeq ($(origin CC),default)
CC := gcc
endif
ifneq ($(CC),gcc)
variant := $(variant)-$(notdir $(CC))
endif
B := build/$(variant)

packages := libevent_core openssl libconfig jansson libxxhash
pc_cflags := $(shell $(PKG_CONFIG) --cflags $(packages) 2>/dev/null)
pc_libs := $(shell $(PKG_CONFIG) --libs $(packages) 2>/dev/null) -lm

warnings := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wformat=2 -Wvla -Wcast-qual -Werror=format-security
ifneq ($(WERROR),)
warnings += -Werror
endif
hardening := -fstack-protector-strong -fstack-clash-protection \
	-fcf-protection=full -fPIE
# clang 14 has it only behind a flag that says it will go away.
ifeq ($(findstring clang,$(CC)),)
hardening += -ftrivial-auto-var-init=zero
endif
hardening_ld := -fPIE -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed
ifneq ($(SAN),)
optimize := -O1 -g -fno-omit-frame-pointer -fsanitize=$(SAN) \
	-fno-sanitize-recover=all
san_ld := -fsanitize=$(SAN)
else
optimize := -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
endif

all_cppflags := -Idaemon -D_GNU_SOURCE -DSESRELAYD_VERSION='"$(VERSION)"' \
	$(if $(filter-out /etc,$(sysconfdir)),-DSESRELAYD_SYSCONFDIR='"$(sysconfdir)"') \
	$(pc_cflags) $(CPPFLAGS)
all_cflags := -std=gnu11 $(optimize) $(warnings) $(hardening) -pthread $(CFLAGS)
all_ldflags := $(hardening_ld) $(san_ld) -pthread $(LDFLAGS)

# One archive a floor.  A program or unit test is linked with its own floor and
# those below, so an upward call does not even link.
floors := base smtp policy queue net relay
floor_objs = $(patsubst %.c,$(B)/%.o,$(wildcard daemon/$(1)/*.c))
main_srcs := daemon/main.c
top_objs := $(patsubst %.c,$(B)/%.o, \
	$(filter-out $(main_srcs),$(wildcard daemon/*.c)))
base_a := $(B)/base.a
smtp_a := $(B)/smtp.a $(base_a)
policy_a := $(B)/policy.a $(base_a)
queue_a := $(B)/queue.a $(base_a)
net_a := $(B)/net.a $(base_a)
relay_a := $(B)/relay.a $(B)/net.a $(B)/queue.a $(B)/policy.a $(B)/smtp.a \
	$(base_a)
daemon_a := $(B)/daemon.a $(relay_a)
sendmail_srcs := $(wildcard daemon/cli/sendmail*.c)
cli_a := $(B)/cli.a $(smtp_a)

unit_tests := $(patsubst tests/%.c,$(B)/tests/%, \
	$(wildcard tests/unit/*/test_*.c))
programs := $(B)/sesrelayd $(B)/sesrelayctl $(B)/sesrelay-sendmail
tools := $(B)/sesd $(B)/load $(B)/logbench $(B)/mkspool $(B)/bareclient

.PHONY: all tools programs clean help
all: programs
programs: $(programs)
tools: $(tools)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(say) CC $<
	$(Q)$(CC) $(all_cppflags) $(all_cflags) -MMD -MP -c -o $@ $<

# What knows where the configuration is, is compiled again when that moves.
$(patsubst %.c,$(B)/%.o,daemon/main.c daemon/check.c daemon/rehearsal.c \
	$(wildcard daemon/cli/*.c)): $(B)/sysconfdir
.PHONY: force
$(B)/sysconfdir: force
	@mkdir -p $(@D)
	@echo '$(sysconfdir)' | cmp -s - $@ || echo '$(sysconfdir)' >$@

$(foreach f,$(floors),$(eval $(B)/$(f).a: $(call floor_objs,$(f))))
$(B)/daemon.a: $(top_objs)
# With what of sesrelayctl is pure, for the unit tests; the linker leaves it out
# of sesrelay-sendmail.
$(B)/cli.a: $(patsubst %.c,$(B)/%.o, \
	$(filter-out daemon/cli/sendmail.c,$(sendmail_srcs)) \
	$(addprefix daemon/cli/,top_line.c top_graph.c top_layout.c \
	top_parts.c ctl_print.c ctl_error.c ctl_upstream.c))
$(B)/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(B)/sesrelayd: $(B)/daemon/main.o $(daemon_a)
# It reads the spool itself when the daemon is down, and `check` is a client of
# SES by itself, with the daemon's configuration.
$(B)/sesrelayctl: $(patsubst %.c,$(B)/%.o,$(filter-out $(sendmail_srcs), \
	$(wildcard daemon/cli/*.c))) $(daemon_a)
# Every mail starts it anew: of the libraries, it has libconfig's alone.
$(B)/sesrelay-sendmail: $(B)/daemon/cli/sendmail.o $(cli_a)
$(B)/sesd: $(patsubst %.c,$(B)/%.o,$(wildcard tests/ses/*.c))
$(B)/load: $(patsubst %.c,$(B)/%.o,$(wildcard tests/bench/load*.c))
$(B)/logbench: $(B)/tests/bench/logbench.o
$(B)/bareclient: $(B)/tests/bench/bareclient.o
$(B)/mkspool: $(B)/tests/crash/mkspool.o $(queue_a)
$(programs) $(tools):
	$(say) LD $@
	$(Q)$(CC) $(all_ldflags) -o $@ $^ $(pc_libs)

# tests/unit/FLOOR/test_X.c is linked with FLOOR and what is below it.
unit_dir = $(word 3,$(subst /, ,$(1)))
define unit_rule
$(B)/tests/unit/$(call unit_dir,$(1))/$(basename $(notdir $(1))): \
	$(B)/$(basename $(1)).o $$($(call unit_dir,$(1))_a)
	$$(say) LD $$@
	$$(Q)$$(CC) $$(all_ldflags) -o $$@ $$^ $$(pc_libs) -lcmocka
endef
$(foreach t,$(wildcard tests/unit/*/test_*.c),$(eval $(call unit_rule,$(t))))

# tests/fuzz/fuzz_X.c: with replay.c's main() here, with libFuzzer's in
# `make fuzz`, which builds them with clang in a variant of its own.
fuzz_names := $(patsubst tests/fuzz/fuzz_%.c,%, \
	$(wildcard tests/fuzz/fuzz_*.c))
fuzz_shared := $(patsubst %.c,$(B)/%.o, \
	$(filter-out tests/fuzz/fuzz_%.c tests/fuzz/fake_%.c \
	tests/fuzz/replay.c,$(wildcard tests/fuzz/*.c)))
fuzz_replays := $(patsubst %,$(B)/fuzz/replay-%,$(fuzz_names))
fuzz_targets := $(patsubst %,$(B)/fuzz/fuzz-%,$(fuzz_names))
$(B)/fuzz.a: $(fuzz_shared)
$(fuzz_replays): $(B)/fuzz/replay-%: $(B)/tests/fuzz/fuzz_%.o \
	$(B)/tests/fuzz/replay.o $(B)/fuzz.a $(daemon_a)
	@mkdir -p $(@D)
	$(say) LD $@
	$(Q)$(CC) $(all_ldflags) -o $@ $(filter %.o,$^) \
		$(filter %.a,$^) $(pc_libs)
$(fuzz_targets): $(B)/fuzz/fuzz-%: $(B)/tests/fuzz/fuzz_%.o $(B)/fuzz.a \
	$(daemon_a)
	@mkdir -p $(@D)
	$(say) LD $@
	$(Q)$(CC) $(all_ldflags) -fsanitize=fuzzer -o $@ $(filter %.o,$^) \
		$(filter %.a,$^) $(pc_libs)
# These drive the relay without net/.
$(foreach n,client server,$(B)/fuzz/replay-$(n) $(B)/fuzz/fuzz-$(n)): \
	$(B)/tests/fuzz/fake_conn.o
$(B)/fuzz/replay-sendmail $(B)/fuzz/fuzz-sendmail: \
	$(patsubst %,$(B)/daemon/cli/sendmail_%.o,address args header lines)
.PHONY: build-fuzz
build-fuzz: $(fuzz_targets)

unit_floors := unit-base unit-smtp unit-policy unit-queue unit-net \
	unit-relay unit-daemon unit-cli
.PHONY: unit $(unit_floors)
unit: $(unit_tests)
	@tests/run-unit.sh $^
$(unit_floors): unit-%:
	@$(MAKE) --no-print-directory \
		$(filter $(B)/tests/unit/$*/%,$(unit_tests)) SAN=$(SAN) CC=$(CC)
	@tests/run-unit.sh $(filter $(B)/tests/unit/$*/%,$(unit_tests))

# --- what people and CI call; each does its own set-up ---

jobs := $(shell nproc)
again = $(MAKE) --no-print-directory SAN=$(SAN) CC=$(CC)

.PHONY: check check-all e2e demo load outage rotation fleet account crash lint \
	format fresh clients
check:
	@scripts/setup.sh check
	@$(again) WERROR=1 -j$(jobs) programs tools build-unit
	@$(again) check-all
.PHONY: build-unit
build-unit: $(unit_tests) $(fuzz_replays)

ifeq ($(SAN),)
check-all:
	@$(again) lint
	@$(again) unit fuzz-replay
	@$(again) e2e
	@$(again) crash-sample
	@$(again) faults-sample
	@$(again) systemd-sample
	@$(MAKE) --no-print-directory SAN=address,undefined -j$(jobs) \
		build-unit
	@$(MAKE) --no-print-directory SAN=address,undefined unit fuzz-replay
	@echo "check: all passed"
else
check-all: unit fuzz-replay e2e
	@echo "check ($(SAN)): all passed"
endif

# Most of a test's time is waiting, so there may be more of them than cores.
e2e_jobs ?= 4
e2e: $(programs) $(tools)
	BUILD=$(B) SESD=$(abspath $(B))/sesd $(PYTHON) -m pytest -q -p no:cacheprovider \
		-n $(e2e_jobs) tests/ses tests/e2e

demo:
	@scripts/setup.sh demo
	@$(again) -j$(jobs) programs tools
	@BUILD=$(B) SESD=$(abspath $(B))/sesd $(PYTHON) tests/demo/demo.py

# 20,000 messages through relay and emulator; then the same under kill -9.
load:
	@scripts/setup.sh demo
	@$(again) -j$(jobs) programs tools
	@BUILD=$(B) SESD=$(abspath $(B))/sesd $(PYTHON) tests/bench/run_load.py

# The emulator refuses connections for a minute, then is back.
outage:
	@scripts/setup.sh demo
	@$(again) -j$(jobs) programs tools
	@BUILD=$(B) SESD=$(abspath $(B))/sesd $(PYTHON) tests/bench/run_load.py \
		--outage 60 --messages 2000

# Eight relays share one account's rate, with 40,000 messages; 7 minutes.
fleet:
	@scripts/setup.sh demo
	@$(again) -j$(jobs) programs tools
	@BUILD=$(B) SESD=$(abspath $(B))/sesd $(PYTHON) tests/bench/run_fleet.py

# The password refused for a minute, the quota used up for two; 5 minutes.
account:
	@scripts/setup.sh demo
	@$(again) -j$(jobs) programs tools
	@BUILD=$(B) SESD=$(abspath $(B))/sesd $(PYTHON) \
		tests/bench/run_account.py $(if $(PATIENT),--patient)

# 20,000 messages while the emulator ends sessions by count and idleness.
rotation:
	@scripts/setup.sh demo
	@$(again) -j$(jobs) programs tools
	@BUILD=$(B) SESD=$(abspath $(B))/sesd $(PYTHON) \
		tests/bench/run_rotation.py

# A hundred reloads, good and broken in turn, at 200 messages/s; a minute.
.PHONY: reload
reload:
	@scripts/setup.sh demo
	@$(again) -j$(jobs) programs tools
	@BUILD=$(B) SESD=$(abspath $(B))/sesd $(PYTHON) \
		tests/bench/run_reload.py

# Ten thousand clients that drip, and one that behaves; a minute and a half.
.PHONY: slowloris
slowloris:
	@scripts/setup.sh demo
	@$(again) -j$(jobs) programs tools
	@BUILD=$(B) SESD=$(abspath $(B))/sesd $(PYTHON) \
		tests/bench/run_slowloris.py

# sesrelayd, Postfix and OpenSMTPD side by side, an hour on a quiet machine;
# needs root.  `make bench QUICK=1` proves in minutes that it works, `make bench
# ROWS="accept drain"` runs some.
.PHONY: bench bench-instructions
bench_env = BUILD=$(B) SESD=$(abspath $(B))/sesd $(PYTHON)
bench:
	@scripts/setup.sh bench
	@$(again) -j$(jobs) programs tools
	@$(bench_env) tests/bench/run_bench.py $(if $(QUICK),--quick) $(ROWS)
# What a message costs in instructions and system calls; two minutes, root.
bench-instructions:
	@scripts/setup.sh bench
	@$(again) -j$(jobs) programs tools
	@$(bench_env) tests/bench/instructions.py

# Crashes, power cuts, failing calls and disks, clocks, a million messages.
# `make crash ONLY="kill clock"` runs some; under 20 minutes in all.
crash_run = BUILD=$(B) SESD=$(abspath $(B))/sesd $(PYTHON) tests/crash/run.py
.PHONY: crash-sample
crash:
	@scripts/setup.sh check
	@$(again) -j$(jobs) programs tools
	@$(crash_run) $(ONLY)
crash-sample:
	@$(crash_run) --sample $(ONLY)

# The committed inputs of the fuzz targets, once each.
.PHONY: fuzz-replay fuzz
fuzz-replay: $(fuzz_replays)
	@tests/fuzz/replay.sh $^

# Each fuzz target for TIME seconds, JOBS of them at a time; `make fuzz
# ONLY="dot path"` runs some.  `make fuzz-merge` then commits what they found to
# the corpus, as far as it reaches further.
TIME ?= 60
JOBS ?= $(jobs)
fuzz_san := fuzzer-no-link,address,undefined
fuzz_run = BUILD=build/san-$(subst $(comma),-,$(fuzz_san))-clang \
	$(PYTHON) tests/fuzz/run.py
.PHONY: fuzz-programs fuzz-merge
fuzz-programs:
	@scripts/setup.sh fuzz
	@$(MAKE) --no-print-directory -j$(jobs) CC=clang SAN=$(fuzz_san) \
		CFLAGS="-fprofile-instr-generate -fcoverage-mapping" \
		LDFLAGS=-fprofile-instr-generate build-fuzz
fuzz: fuzz-programs
	@$(fuzz_run) --time $(TIME) --jobs $(JOBS) $(ONLY)
fuzz-merge: fuzz-programs
	@$(fuzz_run) --merge $(ONLY)

# Every stage of a session with SES times every fault, as a table: two minutes.
# `make faults ONLY="--stage dot --fault RST"` runs some.
faults_run = BUILD=$(B) $(PYTHON) tests/faults/run.py
.PHONY: faults faults-sample
faults:
	@scripts/setup.sh check
	@$(again) -j$(jobs) programs tools
	@$(faults_run) $(ONLY)
faults-sample: $(programs) $(tools)
	@$(faults_run) --sample

# Programs of many languages hand in mail, as a table: five minutes, and a
# gigabyte of packages.  `make clients ONLY=curl` runs some.
clients:
	@scripts/setup.sh clients
	@$(again) -j$(jobs) programs tools
	@BUILD=$(B) $(PYTHON) tests/clients/run.py $(ONLY)

# Alerts, dashboard and metrics, judged by Prometheus: half a minute, and a
# third of a gigabyte of packages.
.PHONY: monitoring
monitoring:
	@scripts/setup.sh monitoring
	@$(again) -j$(jobs) programs tools
	@BUILD=$(B) $(PYTHON) tests/monitoring/run.py

# The Debian package under a real systemd, in a container that is this machine's
# root under an overlay: two minutes.  `make systemd ONLY="restart watchdog"`
# runs some steps; with PACKAGE=, it is what `make install` installs.
.PHONY: systemd
PACKAGE ?= build/deb/sesrelayd_$(VERSION)_$(shell dpkg --print-architecture).deb
systemd: $(if $(PACKAGE),deb)
	@scripts/setup.sh check
	@$(again) -j$(jobs) programs tools
	@BUILD=$(B) $(PYTHON) tests/systemd/run.py \
		$(if $(PACKAGE),--package $(PACKAGE)) $(ONLY)
.PHONY: systemd-sample
systemd-sample: $(programs) $(tools)
	@BUILD=$(B) $(PYTHON) tests/systemd/run.py --sample

# The whole set-up on fresh Debian 12 roots; needs root and debootstrap.
fresh:
	tests/fresh.sh

c_files := $(sort $(wildcard daemon/*.[ch] daemon/*/*.[ch] tests/ses/*.[ch] \
	tests/bench/*.[ch] tests/crash/*.[ch] tests/fuzz/*.[ch] \
	tests/unit/*/*.[ch]))
sh_files := $(sort $(wildcard scripts/*.sh tests/*.sh tests/*/*.sh \
	tests/*/*/*.sh)) .ci/run
tidy_files := $(filter %.c,$(filter-out tests/unit/%,$(c_files)))
.PHONY: lint-floors lint-format lint-shell lint-cppcheck lint-tidy lint-man \
	lint-clang
lint:
	@scripts/setup.sh check
	@$(again) lint-floors lint-format lint-shell lint-man
	@$(again) -j$(jobs) lint-tidy lint-cppcheck
	@$(again) lint-clang
	@echo "lint: ok"
lint-floors:
	@bash tests/lint/floors.sh
lint-format:
	@clang-format --dry-run -Werror $(c_files) && echo "format: ok"
lint-shell:
	@shellcheck $(sh_files)
	@shellcheck -s bash completions/*.bash && echo "shellcheck: ok"
# The fuzzers by themselves: they bring stand-ins of functions of the daemon,
# which it would take for those.
run_cppcheck := cppcheck -q --std=c11 --language=c \
	--enable=warning,portability --inline-suppr \
	--include=tests/lint/cppcheck.h \
	--suppressions-list=tests/lint/cppcheck.txt --error-exitcode=1 \
	-Idaemon -D_GNU_SOURCE -DSESRELAYD_VERSION='"x"'
lint-cppcheck:
	@$(run_cppcheck) daemon tests/ses tests/bench tests/crash
	@$(run_cppcheck) tests/fuzz && echo "cppcheck: ok"
tidy_stamps := $(patsubst %.c,$(B)/tidy/%.ok,$(tidy_files))
lint-tidy: $(tidy_stamps)
	@echo "clang-tidy: ok"
$(B)/tidy/%.ok: %.c .clang-tidy
	@mkdir -p $(@D)
	@clang-tidy --quiet $< -- -std=gnu11 $(all_cppflags) >$@.log 2>&1 \
		|| { cat $@.log; exit 1; }
	@touch $@
lint-man: $(B)/sesrelayd
	@mandoc -T lint -W warning man/* && echo "mandoc: ok"
	@bash tests/lint/keys-documented.sh $(B)/sesrelayd
	@bash tests/lint/spool-documented.sh && echo "spool-documented: ok"
	@bash tests/lint/fields-documented.sh && echo "fields-documented: ok"
# Both compilers, no warning.
lint-clang:
	@$(MAKE) --no-print-directory -j$(jobs) CC=clang WERROR=1 programs \
		tools build-unit >/dev/null && echo "clang: no warning"
# What the README shows for machines that set themselves up, by the linters of
# those who read it; not in `make lint`, as these bring many packages.
.PHONY: lint-examples
lint-examples:
	@scripts/setup.sh examples
	@yamllint --strict -c tests/lint/yamllint.yml conf/examples && \
		echo "yamllint: ok"
	@cloud-init schema --config-file conf/examples/cloud-init.yaml
	@ansible-lint -q --offline --strict conf/examples/ansible.yml && \
		echo "ansible-lint: ok"
format:
	clang-format -i $(c_files)

# --- installation ---

# DESTDIR and the directories at the top are honoured.  One list says what is
# installed where, as FILE=PLACE, so that uninstall takes away what install put.
.PHONY: install install-mta uninstall
confdir := $(sysconfdir)/sesrelayd
config := $(DESTDIR)$(confdir)/sesrelayd.conf
docs := README.md LICENSE $(wildcard docs/*.md)
examples := $(wildcard conf/examples/* conf/prometheus/* conf/grafana/*)
into = $(foreach f,$(wildcard $(1)),$(f)=$(2)/$(notdir $(f)))
installed = $(foreach f,$(programs),$(f)=$(sbindir)/$(notdir $(f))) \
	$(B)/sesd=$(libexecdir)/sesrelayd-sesd \
	$(foreach n,1 5 7 8,$(call into,man/*.$(n),$(mandir)/man$(n))) \
	$(call into,conf/systemd/*.service conf/systemd/*.socket,$(unitdir)) \
	conf/systemd/sysusers.conf=$(sysusersdir)/sesrelayd.conf \
	conf/systemd/tmpfiles.conf=$(tmpfilesdir)/sesrelayd.conf \
	$(foreach n,sesrelayctl sesrelayd, \
		completions/sesrelayctl.bash=$(completionsdir)/$(n)) \
	$(call into,$(docs),$(docdir)) \
	$(foreach f,$(examples),$(f)=$(docdir)/$(f:conf/%=%))
# Units, manuals and examples name places; these are the ones of this build.
places := -e 's,@sbindir@,$(sbindir),g' -e 's,/etc/sesrelayd,$(confdir),g' \
	-e 's,/usr/local/libexec/,$(libexecdir)/,g'
install: programs $(B)/sesd
	@set -e; for pair in $(installed); do \
		from=$${pair%%=*}; to=$(DESTDIR)$${pair#*=}; \
		$(INSTALL) -d "$${to%/*}"; \
		case $$from in \
		$(B)/*) $(INSTALL) -m 755 "$$from" "$$to" ;; \
		*) sed $(places) "$$from" | \
			$(INSTALL) -m 644 /dev/stdin "$$to" ;; \
		esac; \
	done
	@$(INSTALL) -d $(dir $(config))
	@if test -e $(config); then \
		echo "install: $(config) is left as it is"; \
	else sed $(places) conf/sesrelayd.conf | \
		$(INSTALL) -m 644 /dev/stdin $(config); fi
	@echo "install: done; the configuration is $(config)"

# The names that programs call.  Those of another mail server are not touched.
mta_links := $(sbindir)/sendmail $(PREFIX)/lib/sendmail $(bindir)/mailq \
	$(bindir)/newaliases
mta_pages := $(foreach n,sendmail mailq newaliases,$(mandir)/man1/$(n).1)
install-mta: install
	@for link in $(addprefix $(DESTDIR),$(mta_links) $(mta_pages)); do \
		if test -e $$link -o -h $$link; then \
			case $$(readlink $$link) in \
			*sesrelay-sendmail | sesrelay-sendmail.1) ;; \
			*) echo "install-mta: $$link is another program's:" \
				"remove it first" >&2; exit 1 ;; \
			esac; \
		fi; \
	done
	@$(INSTALL) -d $(addprefix $(DESTDIR),$(sbindir) $(bindir) \
		$(PREFIX)/lib $(mandir)/man1)
	@for link in $(mta_links); do \
		ln -sf $(sbindir)/sesrelay-sendmail $(DESTDIR)$$link; done
	@for page in $(mta_pages); do \
		ln -sf sesrelay-sendmail.1 $(DESTDIR)$$page; done

# The configuration and the spool are the operator's: they stay.
uninstall:
	@for link in $(addprefix $(DESTDIR),$(mta_links) $(mta_pages)); do \
		case $$(readlink $$link) in \
		$(sbindir)/sesrelay-sendmail | sesrelay-sendmail.1) \
			rm -f $$link ;; \
		esac; \
	done
	@for pair in $(installed); do rm -f $(DESTDIR)$${pair#*=}; done
	@for dir in prometheus grafana examples ""; do \
		dir=$(DESTDIR)$(docdir)/$$dir; \
		test ! -d $$dir || rmdir --ignore-fail-on-non-empty $$dir; \
	done
	@echo "uninstall: configuration and spool are left"

# --- packages, in build/deb and build/rpm ---

# Of the files that git knows, in a copy, so that nothing lands beside the tree.
.PHONY: deb packages
deb:
	@scripts/setup.sh deb
	@scripts/deb.sh build/deb $(VERSION)
# For Amazon Linux 2023; on Debian, as far as its rpm goes.
.PHONY: rpm
rpm:
	@scripts/setup.sh rpm
	@scripts/rpm.sh build/rpm $(VERSION)
# What the packages are worth, and what an administrator does with them: in a
# fresh root, by debootstrap; needs root, takes some minutes.
packages: deb
	@scripts/setup.sh packages
	@tests/packages/debian.sh $(VERSION)
	@scripts/rpm.sh build/rpm $(VERSION)
	@tests/packages/rpm.sh
clean:
	rm -rf build

help:
	@echo "make              build sesrelayd and sesrelayctl"
	@echo "make demo         show the main job, end to end"
	@echo "make check        every test (SAN=address,undefined: sanitized)"
	@echo "make load         20,000 messages, and the same under kill -9"
	@echo "make outage       a minute without the upstream"
	@echo "make rotation     20,000 messages while SES ends sessions"
	@echo "make reload       a hundred reloads in a minute, half of them broken"
	@echo "make slowloris    10,000 clients that drip a byte in ten seconds"
	@echo "make fleet        eight relays share one account's sending rate"
	@echo "make account      password refused, daily quota used up, under load"
	@echo "make bench        beside Postfix and OpenSMTPD, as a table"
	@echo "make crash        kill -9, power cuts, failing disks, the clock, ..."
	@echo "make faults       what SES or the network may do, stage by stage"
	@echo "make fuzz         libFuzzer, TIME=60 s a target, JOBS=2 at a time"
	@echo "make systemd      the package under a real systemd, in a container"
	@echo "make clients      mail from real programs (installs many packages)"
	@echo "make monitoring   alerts and metrics, judged by a real Prometheus"
	@echo "make fresh        make demo and make check on fresh Debian roots"
	@echo "make lint format  checks and layout of the source"
	@echo "make lint-examples  cloud-init and Ansible, by their linters"
	@echo "make install uninstall (PREFIX, DESTDIR, sysconfdir, ...)"
	@echo "make install-mta  install, and be sendmail, mailq, newaliases"
	@echo "make deb          Debian packages, in build/deb"
	@echo "make rpm          RPM packages, in build/rpm"
	@echo "make packages     the same, installed and used in a fresh root"

-include $(shell find $(B) -name '*.d' 2>/dev/null)
