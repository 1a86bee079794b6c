# tappal. `make`, `make install`; every other target is listed by `make help`.
#
# ROOT is compiled in and stands before every path of the instance (/etc/tappal, /var/spool/tappal, ...): several
# instances stand side by side. SYSLOG is where the programs with sockets (common/logsocket.h) find the log reader. DESTDIR is only for
# packaging. VARIANT=asan|plain keeps builds apart.
# MUSL=musl-gcc builds what tcpserver and inetd start for a connection static, which halves what they cost (etc/static.mk).

PREFIX  ?= /usr
ROOT    ?=
DESTDIR ?=
SYSLOG  ?= /dev/log
MUSL    ?=
VARIANT ?= $(if $(MUSL),musl,plain)
CC      ?= cc

OBJ := build/$(VARIANT)
BIN := build/$(VARIANT)/bin$(subst /,-,$(ROOT))

WARN      = -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Werror
HARDEN    = -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2
SAN_plain =
SAN_asan  = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0
ALLCFLAGS = -std=c11 -D_GNU_SOURCE -I. -O2 -g $(WARN) $(HARDEN) $(SAN_$(VARIANT)) $(CFLAGS)
ALLLDFLAGS = -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(SAN_$(VARIANT)) $(LDFLAGS)

# ---- what may be used by all: no SMTP policy, no LMDB, no OpenSSL
COMMON = bytes linein io clock msgid verdict domain mailaddr envelope netaddr crc32c accounts priv child passing passing_receive sibling service log logsocket settings settings_table settings_parse settings_grammar checklines keylist limits route mailbox channel milterline commandline dns xtext base64 quoted fieldname mimehead downgrade

# ---- one line a program: where it lives, its objects, its libraries. `make boundaries` holds the built files against this.
smtpd/smtpd      = smtpd/smtpd.o $(DOOR:%=%.o) $(SESSION:%=%.o) $(ASK:%=%.o) smtpd/policy/policy.o $(CHECKS:%=%.o) $(CONTENT:%=%.o)
smtpd/smtpd-start = smtpd/starter/starter.o
smtpd/auth       = smtpd/auth/auth.o smtpd/auth/crew.o smtpd/auth/table.o smtpd/auth/verify.o smtpd/auth/failures.o smtpd/auth/sasl.o smtpd/auth/scram.o smtpd/auth/passwords.o
smtpd/tlsd       = smtpd/tlsd/tlsd.o smtpd/tlsd/keys.o smtpd/tlsd/signer.o smtpd/tlsd/grants.o smtpd/tlsd/keyless.o smtpd/tlsd/context.o smtpd/tlsd/door.o smtpd/tlsd/session.o smtpd/tlsd/calls.o smtpd/tlsd/relay.o smtpd/tlsd/watch.o
smtpd/guard      = $(GUARD:%=%.o) smtpd/guard/state.o smtpd/guard/guard.o
smtpd/filterd    = smtpd/filterd/filterd.o smtpd/filterd/run.o
queue/enqueue    = queue/enqueue/enqueue.o queue/enqueue/enqueue_once.o queue/enqueue/enqueue_session.o queue/enqueue/caller.o queue/enqueue/parcel.o queue/intakefile.o
queue/queued     = queue/queued/queued.o queue/queued/intake.o queue/queued/senders.o queue/queued/taking.o queue/queued/adoption.o queue/queued/spawner.o queue/queued/control.o queue/queued/retrier.o queue/queued/bouncer.o queue/queued/waiting.o queue/queued/events.o queue/intakefile.o $(STORE)
queue/spawn      = queue/spawn/spawn.o queue/spawn/manager.o queue/spawn/crew.o queue/spawn/recipient.o queue/spawn/worker.o queue/spawn/flight.o $(BODY) queue/spawn/launch.o queue/spawn/home.o
queue/bounce     = queue/bounce/bounce.o queue/bounce/report.o queue/bounce/clean.o $(BODY)
queue/tappal     = queue/tappal/tappal.o queue/tappal/arguments.o queue/tappal/tappal_queue.o queue/tappal/tappal_why.o queue/tappal/tappal_operate.o queue/tappal/operator.o queue/tappal/tappal_status.o queue/tappal/owner.o queue/tappal/tappal_config.o queue/tappal/tappal_log.o queue/tappal/tappal_check.o queue/tappal/tappal_guard.o queue/tappal/tappal_passwd.o queue/tappal/tappal_session.o queue/tappal/foresee.o smtpd/session/access.o smtpd/ask/guardneeds.o smtpd/ask/guardreply.o smtpd/ask/places.o smtpd/session/submission.o $(CHECKS:%=%.o) smtpd/auth/passwords.o smtpd/auth/scram.o queue/tappal/repair.o queue/tappal/tappal_backup.o queue/tappal/show.o queue/tappal/select.o $(CHECK)
remote/remote    = remote/remote.o remote/job.o remote/client.o remote/transaction.o remote/conn.o remote/reply.o remote/dotstuff.o remote/sevenbit.o remote/hosts.o
remote/callout   = $(CALLOUT:%=%.o) remote/callout/callout.o remote/callout/inquiry.o remote/callout/dialogue.o remote/probe.o remote/client.o remote/conn.o remote/reply.o remote/hosts.o
remote/resolver  = remote/resolver.o remote/lookup.o remote/dnswire.o
local/local      = local/local.o local/errand.o local/maildir.o local/trail.o
local/inject     = local/inject.o $(SUBMISSION)
local/sendmail   = local/sendmail.o local/verify.o $(SUBMISSION)

CALLOUT = remote/callout/cache remote/callout/pace
GUARD = smtpd/guard/table smtpd/guard/keys smtpd/guard/counts smtpd/guard/grey smtpd/guard/present
CONTENT = smtpd/content/content smtpd/content/macros smtpd/content/inspect smtpd/content/edit smtpd/content/letter smtpd/content/draft smtpd/content/milter smtpd/content/wire
DOOR = smtpd/door/pool smtpd/door/serve smtpd/door/passed smtpd/door/peer smtpd/door/proxy smtpd/door/proxyhead smtpd/door/role
SESSION = smtpd/session/session smtpd/session/command smtpd/session/parameters smtpd/session/access smtpd/session/gate smtpd/session/authenticate smtpd/session/starttls smtpd/session/submission smtpd/session/receive smtpd/session/message smtpd/session/chunk smtpd/session/authres smtpd/session/xclient smtpd/session/attributes smtpd/session/etrn
ASK = smtpd/ask/enqueuer smtpd/ask/authask smtpd/ask/guardask smtpd/ask/guardneeds smtpd/ask/guardreply smtpd/ask/filterask smtpd/ask/places smtpd/ask/seldom smtpd/ask/tls
CHECKS = smtpd/policy/checks smtpd/policy/helo smtpd/policy/lists smtpd/policy/callouts smtpd/policy/answers smtpd/ask/calloutask
BODY = queue/body.o queue/intakefile.o queue/store/loghead.o
STORE = queue/store/store.o queue/store/store_accept.o queue/store/store_claim.o queue/store/store_bounce.o queue/store/store_operate.o queue/store/tokens.o queue/store/apply.o queue/store/apply_operation.o \
	queue/store/schedule.o queue/store/backoff.o queue/store/jobs.o queue/store/reclaim.o queue/store/usage.o queue/store/msglog.o queue/store/loghead.o queue/store/msglog_scan.o queue/store/prepare.o queue/index.o queue/operation.o
CHECK = queue/store/check.o queue/store/check_index.o queue/store/check_log.o queue/store/check_doubt.o queue/store/check_tail.o queue/store/check_track.o queue/store/check_body.o queue/store/check_files.o queue/store/check_manifest.o queue/store/manifest.o queue/store/backup.o queue/store/backup_log.o queue/store/backup_prove.o queue/store/quarantine.o queue/body.o \
	queue/store/msglog.o queue/store/loghead.o queue/store/msglog_scan.o queue/store/prepare.o queue/store/tokens.o queue/store/usage.o queue/index.o queue/index_whole.o queue/intakefile.o queue/operation.o
SUBMISSION = local/outgoing.o local/compose.o local/header.o local/submit.o local/submit_smtp.o

LIBS_smtpd/tlsd      = -lssl -lcrypto
LIBS_smtpd/guard     = -llmdb -lpthread -lsodium
LIBS_queue/queued    = -llmdb -lpthread
LIBS_smtpd/auth      = -lsodium -Wl,--no-as-needed -lcrypt
LIBS_queue/tappal    = -llmdb -lpthread -ljansson -lsmartcols -lsodium
LIBS_remote/resolver = -lunbound -lidn2

PROGRAMS = smtpd/smtpd smtpd/guard smtpd/filterd smtpd/smtpd-start smtpd/auth smtpd/tlsd queue/enqueue queue/queued queue/spawn queue/bounce queue/tappal remote/remote remote/callout remote/resolver local/local local/inject local/sendmail

COMMON_OBJ = $(COMMON:%=$(OBJ)/common/%.o)

.PHONY: all help install uninstall check check-unit check-dialog check-e2e asan ubsan fuzz bench boundaries bless clean
all: $(PROGRAMS:%=$(BIN)/%) $(OBJ)/man/tappal-control.5

# Only this object knows ROOT.
$(BIN)/paths.o: common/paths.c common/paths.h
	@mkdir -p $(@D)
	$(CC) $(ALLCFLAGS) -DROOT='"$(ROOT)"' -DPREFIX='"$(PREFIX)"' -DSYSLOG='"$(SYSLOG)"' -c -o $@ $<

$(OBJ)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALLCFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/libcommon.a: $(COMMON_OBJ)
	@rm -f $@
	ar rcs $@ $^

define program
$(BIN)/$(1): $$($(1):%=$$(OBJ)/%) $$(OBJ)/libcommon.a $$(BIN)/paths.o
	@mkdir -p $$(@D)
	$$(CC) $$(ALLLDFLAGS) -o $$@ $$($(1):%=$$(OBJ)/%) $$(BIN)/paths.o $$(OBJ)/libcommon.a $$(LIBS_$(1))
endef
include etc/static.mk
$(foreach p,$(filter-out $(STATIC),$(PROGRAMS)),$(eval $(call program,$(p))))

# The page of the settings is made from their table.
$(OBJ)/man/control: $(OBJ)/man/control.o $(OBJ)/libcommon.a
	$(CC) $(ALLLDFLAGS) -o $@ $^

$(OBJ)/man/tappal-control.5: $(OBJ)/man/control
	$< >$@.new && mv $@.new $@

include tests/tests.mk
include etc/install.mk

help:
	@echo 'all install uninstall      PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) ROOT=$(ROOT) SYSLOG=$(SYSLOG)'
	@echo 'check                      everything (tests/run without apt)'
	@echo 'check-unit check-dialog check-e2e boundaries'
	@echo 'asan ubsan                 the unit tests with both sanitizers'
	@echo 'sanitized                  the programs with both, against the dialogs and the tests of smtpd, queue, local and remote'
	@echo 'fuzz fuzz-smoke            every fuzz target, FUZZ_SECONDS=$(FUZZ_SECONDS) each'
	@echo 'crash crash-sample         kills, errors, power losses at every point; SAMPLE=N SEED=N'
	@echo 'bench                      beside Postfix, OpenSMTPD, Exim; QUICK=1 in minutes, ONLY=accept,local'
	@echo 'bless                      write the golden files anew; read the diff'
	@echo 'clean'

clean:
	rm -rf build

-include $(shell find build/$(VARIANT) -name '*.d' 2>/dev/null)
