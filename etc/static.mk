# make MUSL=musl-gcc ...: smtpd and enqueue as static programs against musl (Debian: musl-tools). Every connection under tcpserver or inetd starts
# both, and a program of Debian's C library asks CPUID some fifty times before main, which a virtual machine traps (docs/PERFORMANCE.md).
# All else is built as ever. What such a program calls is read from its object, which has all of our code; from that object, common/musl.c and
# musl it is linked. `make boundaries` holds it against the table like the others.
#
# smtpd-start asks its C library for nothing but system calls, and is started for each connection: it is static always, against musl where there
# is a musl-gcc, else against Debian's C library; only a build with sanitizers cannot be.

STATIC_CC := $(or $(MUSL),$(if $(SAN_$(VARIANT)),,$(shell command -v musl-gcc)))
STATIC     = $(if $(SAN_$(VARIANT)),,smtpd/smtpd-start) $(if $(MUSL),smtpd/smtpd queue/enqueue)
STARTER_COMMON = accounts bytes channel clock io passing sibling

ifneq ($(STATIC_CC),)
# Where its start files are; its specs (musl-gcc) know no static position-independent program, so they are named here.
MUSL_LIB    := $(shell $(STATIC_CC) -'###' -xc /dev/null 2>&1 | tr ' "' '\n\n' | sed -n 's|/Scrt1\.o$$||p')
MUSL_CFLAGS  = $(filter-out -D_FORTIFY_SOURCE=2,$(ALLCFLAGS)) -include common/musl.h
MUSL_LDFLAGS = -static -nostartfiles -Wl,-pie,--no-dynamic-linker,-z,text,-z,relro,-z,now,-z,noexecstack,--gc-sections

$(OBJ)/static/%.o: %.c common/musl.h
	@mkdir -p $(@D)
	$(STATIC_CC) $(MUSL_CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/static/libcommon.a: $(COMMON:%=$(OBJ)/static/common/%.o)
	@rm -f $@
	ar rcs $@ $^

$(OBJ)/static/musl.o: common/musl.c common/musl.h
	@mkdir -p $(@D)
	$(STATIC_CC) $(MUSL_CFLAGS) -c -o $@ $<

$(BIN)/static-paths.o: common/paths.c common/paths.h
	@mkdir -p $(@D)
	$(STATIC_CC) $(MUSL_CFLAGS) -DROOT='"$(ROOT)"' -DPREFIX='"$(PREFIX)"' -DSYSLOG='"$(SYSLOG)"' -c -o $@ $<

# program, and what of ours it is linked from
define static_program
$(BIN)/$(1).o: $$($(1):%=$$(OBJ)/static/%) $$(BIN)/static-paths.o $(2)
	@mkdir -p $$(@D)
	$$(LD) -r -o $$@ $$^

$(BIN)/$(1): $(BIN)/$(1).o $$(OBJ)/static/musl.o
	$$(STATIC_CC) $$(MUSL_LDFLAGS) -o $$@ $$(MUSL_LIB)/rcrt1.o $$(MUSL_LIB)/crti.o $$^ $$(MUSL_LIB)/crtn.o
endef
$(eval $(call static_program,smtpd/smtpd-start,$(STARTER_COMMON:%=$(OBJ)/static/common/%.o)))
$(foreach p,$(filter-out smtpd/smtpd-start,$(STATIC)),$(eval $(call static_program,$(p),$(OBJ)/static/libcommon.a)))
else ifneq ($(strip $(STATIC)),)
$(BIN)/smtpd/smtpd-start.o: $(smtpd/smtpd-start:%=$(OBJ)/%) $(STARTER_COMMON:%=$(OBJ)/common/%.o) $(BIN)/paths.o
	@mkdir -p $(@D)
	$(LD) -r -o $@ $^

$(BIN)/smtpd/smtpd-start: $(BIN)/smtpd/smtpd-start.o
	$(CC) $(filter-out -pie,$(ALLLDFLAGS)) -static-pie -o $@ $<
endif
