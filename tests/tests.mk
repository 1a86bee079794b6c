# ---- what there is to test. Unit tests: tests/unit/test_NAME.c; UNIT_OBJ_NAME and UNIT_LIBS_NAME say what it links besides common.
# Fuzz targets: tests/fuzz/fuzz_NAME.c, seeds in tests/fuzz/seeds/NAME/; FUZZ_SRC_NAME and FUZZ_LIBS_NAME likewise (sources).

# common
UNIT += bytes linein io clock msgid verdict domain mailaddr envelope netaddr crc32c accounts
FUZZ += mailaddr envelope linein channel settings
UNIT += channel log settings keylist route mailbox priv service passing
UNIT_LIBS_log = -ljansson
UNIT_LIBS_settings = -Wl,--wrap=open
UNIT_LIBS_priv = -Wl,--wrap=fopen
UNIT_LIBS_mailbox = -Wl,--wrap=getpwnam,--wrap=stat

# spawn, local, bounce
UNIT += report maildir body worker manager
UNIT_OBJ_report = queue/bounce/report.o queue/bounce/clean.o
UNIT_OBJ_maildir = local/maildir.o local/trail.o
UNIT_OBJ_body = $(BODY)
UNIT_OBJ_manager = queue/spawn/manager.o queue/spawn/flight.o $(BODY)
UNIT_OBJ_worker = queue/spawn/worker.o queue/spawn/flight.o $(BODY)
FUZZ += trail report
FUZZ_SRC_trail = local/trail.c
FUZZ_SRC_report = queue/bounce/report.c queue/bounce/clean.c

# enqueue, queued
UNIT += intakefile enqueue spawner waiting
UNIT_OBJ_intakefile = queue/intakefile.o queue/queued/taking.o
UNIT_OBJ_spawner = queue/queued/spawner.o $(STORE) queue/intakefile.o
UNIT_OBJ_waiting = queue/queued/waiting.o $(STORE) queue/intakefile.o
UNIT_LIBS_spawner = -llmdb -lpthread
UNIT_LIBS_waiting = -llmdb -lpthread
UNIT_OBJ_enqueue = queue/enqueue/caller.o queue/enqueue/parcel.o queue/enqueue/enqueue_once.o queue/intakefile.o
FUZZ += intakefile
FUZZ_SRC_intakefile = queue/intakefile.c queue/queued/taking.c

# inject and sendmail
UNIT += header
UNIT_OBJ_header = local/header.o
FUZZ += header
FUZZ_SRC_header = local/header.c

# tappal
UNIT += select show
UNIT_OBJ_show = queue/tappal/show.o
UNIT_LIBS_show = -ljansson -lsmartcols
UNIT_OBJ_select = queue/tappal/select.o queue/index.o
UNIT_LIBS_select = -llmdb

# remote, resolver
UNIT += reply conn hosts dotstuff dnswire downgrade
UNIT_OBJ_reply = remote/reply.o
UNIT_OBJ_conn = remote/conn.o remote/reply.o
UNIT_LIBS_conn = -Wl,--wrap=send
UNIT_OBJ_hosts = remote/hosts.o
UNIT_OBJ_dotstuff = remote/dotstuff.o
UNIT_OBJ_dnswire = remote/dnswire.o
UNIT += callout
UNIT_OBJ_callout = $(CALLOUT:%=%.o) remote/callout/dialogue.o remote/probe.o remote/client.o remote/conn.o remote/reply.o remote/hosts.o
FUZZ += callout
FUZZ_SRC_callout = remote/callout/inquiry.c remote/callout/dialogue.c $(CALLOUT:%=%.c) remote/probe.c remote/client.c remote/conn.c remote/reply.c smtpd/ask/calloutask.c
FUZZ_LIBS_callout = $(FUZZ_QUIET) -Wl,--wrap=sibling_connect,--wrap=child_start,--wrap=child_end,--wrap=conn_open,--wrap=setrlimit,--wrap=prctl
FUZZ += reply dotstuff dnswire downgrade
FUZZ_SRC_reply = remote/reply.c
FUZZ_SRC_dotstuff = remote/dotstuff.c
FUZZ_SRC_dnswire = remote/dnswire.c

# smtpd
# a session without its enqueue
SMTPD_DIALOG = $(SESSION) $(filter-out smtpd/ask/enqueuer,$(ASK)) smtpd/door/role smtpd/door/peer smtpd/door/proxy smtpd/door/proxyhead smtpd/policy/policy $(CHECKS) $(CONTENT)
UNIT += message command enqueuer submission checks checklines
UNIT_OBJ_checks = $(CHECKS:%=%.o)
UNIT += proxyhead attributes
UNIT_OBJ_attributes = smtpd/session/attributes.o
UNIT += authres
UNIT_OBJ_authres = smtpd/session/authres.o
FUZZ += authres
FUZZ_SRC_authres = smtpd/session/authres.c
FUZZ += attributes
FUZZ_SRC_attributes = smtpd/session/attributes.c
UNIT_OBJ_proxyhead = smtpd/door/proxyhead.o
UNIT_OBJ_submission = smtpd/session/submission.o smtpd/session/message.o
UNIT_OBJ_message = smtpd/session/message.o
UNIT_OBJ_command = $(SMTPD_DIALOG:%=%.o) smtpd/ask/enqueuer.o
UNIT_OBJ_enqueuer = smtpd/ask/enqueuer.o
FUZZ += message command proxyhead
FUZZ_SRC_proxyhead = smtpd/door/proxyhead.c
FUZZ += checklines
FUZZ_SRC_message = smtpd/session/message.c
FUZZ_SRC_command = $(SMTPD_DIALOG:%=%.c)
FUZZ_QUIET = -Wl,--wrap=log_info,--wrap=log_warn,--wrap=log_msg
FUZZ_LIBS_command = $(FUZZ_QUIET)

# smtpd's filters
UNIT += milterwire letter milterline commandline
UNIT_OBJ_milterwire = smtpd/content/wire.o
UNIT_OBJ_letter = smtpd/content/letter.o smtpd/content/draft.o smtpd/content/wire.o
FUZZ += milter
FUZZ_SRC_milter = smtpd/content/wire.c
FUZZ += filter
FUZZ_SRC_filter = $(FUZZ_SRC_command) smtpd/filterd/run.c
FUZZ_LIBS_filter = $(FUZZ_QUIET) -Wl,--wrap=sibling_connect

# auth
AUTH_DIALOG = smtpd/auth/sasl smtpd/auth/scram smtpd/auth/passwords
UNIT += scram sasl passwords failures
UNIT_OBJ_scram = smtpd/auth/scram.o
UNIT_OBJ_sasl = $(AUTH_DIALOG:%=%.o)
UNIT_OBJ_passwords = smtpd/auth/passwords.o smtpd/auth/scram.o smtpd/auth/verify.o
UNIT_OBJ_failures = smtpd/auth/failures.o
UNIT_LIBS_scram = -lsodium
UNIT_LIBS_sasl = -lsodium
# The sanitizer has a crypt_r of its own that calls the real one: it must be there.
UNIT_LIBS_passwords = -lsodium -Wl,--no-as-needed -lcrypt
UNIT_LIBS_failures = -lsodium
FUZZ += sasl
FUZZ_SRC_sasl = $(AUTH_DIALOG:%=%.c)
FUZZ_LIBS_sasl = -lsodium

# guard
UNIT += guard
UNIT_OBJ_guard = $(GUARD:%=%.o)
UNIT_LIBS_guard = -lsodium
FUZZ += limits

# smtpd, from connection to connection
UNIT += session
UNIT_OBJ_session = $(SMTPD_DIALOG:%=%.o) smtpd/ask/enqueuer.o

# tlsd
UNIT += signer calls
UNIT_OBJ_calls = smtpd/tlsd/calls.o
UNIT_OBJ_signer = smtpd/tlsd/signer.o smtpd/tlsd/grants.o smtpd/tlsd/keyless.o
UNIT_LIBS_signer = -lcrypto

# the store
UNIT += msglog index schedule store crash operate delay reclaim large check check_index check_files backup
UNIT_OBJ_msglog = queue/store/msglog.o queue/store/loghead.o queue/store/msglog_scan.o queue/store/prepare.o
UNIT_OBJ_index = queue/index.o
UNIT_OBJ_schedule = $(STORE) queue/intakefile.o
UNIT_OBJ_store = $(STORE) queue/intakefile.o
UNIT_OBJ_large = $(STORE) queue/intakefile.o
UNIT_OBJ_crash = $(sort $(STORE) $(CHECK))
UNIT_OBJ_check = $(sort $(STORE) $(CHECK))
UNIT_OBJ_check_index = $(UNIT_OBJ_check)
UNIT_OBJ_check_files = $(UNIT_OBJ_check)
UNIT_OBJ_backup = $(sort $(STORE) $(CHECK))
UNIT_OBJ_operate = $(STORE) queue/intakefile.o
UNIT_OBJ_delay = $(STORE) queue/intakefile.o
UNIT_OBJ_reclaim = $(STORE) queue/intakefile.o queue/body.o
UNIT_LIBS_msglog = -lpthread
UNIT_LIBS_index = -llmdb
UNIT_LIBS_schedule = -llmdb -lpthread
UNIT_LIBS_large = -llmdb -lpthread
UNIT_LIBS_store = -llmdb -lpthread -Wl,--wrap=fallocate,--wrap=fdatasync
UNIT_LIBS_crash = -llmdb -lpthread
UNIT_LIBS_check = -llmdb -lpthread
UNIT_LIBS_check_index = $(UNIT_LIBS_check)
UNIT_LIBS_check_files = $(UNIT_LIBS_check)
UNIT_LIBS_backup = -llmdb -lpthread
UNIT_LIBS_operate = -llmdb -lpthread
UNIT_LIBS_delay = -llmdb -lpthread
UNIT_LIBS_reclaim = -llmdb -lpthread
FUZZ += replay manifest
FUZZ_SRC_manifest = queue/store/manifest.c
FUZZ_SRC_replay = $(STORE:.o=.c) queue/intakefile.c
FUZZ_LIBS_replay = -llmdb -lpthread

# ---- how it is built and run; the lists above are complete here
UNIT_BIN = $(UNIT:%=$(OBJ)/tests/unit/test_%)

define unit
$$(OBJ)/tests/unit/test_$(1): $$(OBJ)/tests/unit/test_$(1).o $$(UNIT_OBJ_$(1):%=$$(OBJ)/%) $$(OBJ)/libcommon.a $$(BIN)/paths.o
	$$(CC) $$(ALLLDFLAGS) -o $$@ $$< $$(UNIT_OBJ_$(1):%=$$(OBJ)/%) $$(BIN)/paths.o $$(OBJ)/libcommon.a -lcmocka $$(UNIT_LIBS_$(1))
endef
$(foreach t,$(UNIT),$(eval $(call unit,$(t))))

check-unit: $(UNIT_BIN)
	sh tests/unit/run $(UNIT_BIN)

asan ubsan:
	$(MAKE) VARIANT=asan check-unit

# Golden files (tests/golden/) are written anew by the tests that compare with them; read the diff.
bless: $(UNIT_BIN)
	BLESS=1 sh tests/unit/run $(UNIT_BIN)
	-@git --no-pager diff --stat -- tests/golden

# ---- fuzzing: tests/fuzz/fuzz_NAME.c, compiled from the sources with clang (objects of the other builds are not instrumented).
FUZZ_SECONDS ?= 60
FUZZ_CC    ?= clang-14
FUZZ_FLAGS  = -std=c11 -D_GNU_SOURCE -I. -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_OUT    = build/fuzz
FUZZ_COMMON = $(COMMON:%=$(FUZZ_OUT)/common/%.o) $(FUZZ_OUT)/common/paths.o

$(FUZZ_OUT)/%.o: %.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -DROOT='""' -DPREFIX='"/usr"' -DSYSLOG='"/dev/log"' -MMD -MP -c -o $@ $<

define fuzz
$$(FUZZ_OUT)/fuzz_$(1): $$(FUZZ_OUT)/tests/fuzz/fuzz_$(1).o $$(FUZZ_SRC_$(1):%.c=$$(FUZZ_OUT)/%.o) $$(FUZZ_COMMON)
	$$(FUZZ_CC) $$(FUZZ_FLAGS) -fsanitize=fuzzer -o $$@ $$^ $$(FUZZ_LIBS_$(1))
endef
$(foreach t,$(FUZZ),$(eval $(call fuzz,$(t))))

fuzz-smoke: FUZZ_SECONDS = 2
fuzz fuzz-smoke: $(FUZZ:%=$(FUZZ_OUT)/fuzz_%)
	sh tests/fuzz/run $(FUZZ_SECONDS) $^
.PHONY: fuzz-smoke

# ---- the rest of the suite, and the benchmark
check:
	sh tests/run --no-apt

check-dialog: all
	/usr/bin/python3 tests/dialog/run.py

# The programs themselves with both sanitizers: dialogs, and each against hostile neighbours.
sanitized:
	$(MAKE) -s VARIANT=asan all
	VARIANT=asan /usr/bin/python3 tests/dialog/run.py
	for suite in smtpd queue local remote; do VARIANT=asan /usr/bin/python3 tests/lib/pytest_counts.py tests/$$suite || exit 1; done
.PHONY: sanitized

check-e2e: all
	/usr/bin/python3 tests/lib/pytest_counts.py tests/e2e

build/bench/%: tests/bench/%.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -o $@ $< $(BENCH_LIBS_$*)

BENCH_LIBS_handshakes = -lssl -lcrypto

# QUICK=1: in minutes. ONLY=accept,relay,local: groups of workloads, or beginnings of their names. BENCH: more options of run.py.
bench: all build/bench/load build/bench/sink build/bench/handshakes
	sh tests/bench/fetch
	/usr/bin/python3 tests/bench/run.py $(if $(QUICK),--quick) $(if $(ONLY),--only '$(ONLY)') $(BENCH)

# Kills, errors and power losses at every point (tests/crash/README.md). SAMPLE=N states only; SEED=N the same choice again.
crash:
	/usr/bin/python3 tests/crash/run.py $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED))

# For tests/run. The seed is made from the sources: who runs the same tree twice gets the same states, and every change tries others.
crash-sample:
	/usr/bin/python3 tests/crash/run.py --sample $(or $(SAMPLE),60) --seed $(or $(SEED),tree)
.PHONY: crash crash-sample

-include $(shell find $(FUZZ_OUT) -name '*.d' 2>/dev/null)
