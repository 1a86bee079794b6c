# make MUSL=musl-gcc ...: smtpd and enqueue as static programs against musl (Debian: musl-tools). Every connection under tcpserver or inetd starts
# both, and a program of Debian's C library asks CPUID some fifty times before main, which a virtual machine traps (docs/PERFORMANCE.md).
# All else is built as ever. What such a program calls is read from its object, which has all of our code; from that object, common/musl.c and
# musl it is linked. `make boundaries` holds it against the table like the others.

ifneq ($(MUSL),)
STATIC = smtpd/smtpd queue/enqueue

# Where its start files are; its specs (musl-gcc) know no static position-independent program, so they are named here.
MUSL_LIB    := $(shell $(MUSL) -'###' -xc /dev/null 2>&1 | tr ' "' '\n\n' | sed -n 's|/Scrt1\.o$$||p')
MUSL_CFLAGS  = $(filter-out -D_FORTIFY_SOURCE=2,$(ALLCFLAGS)) -include common/musl.h
MUSL_LDFLAGS = -static -nostartfiles -Wl,-pie,--no-dynamic-linker,-z,text,-z,relro,-z,now,-z,noexecstack,--gc-sections

$(OBJ)/static/%.o: %.c common/musl.h
	@mkdir -p $(@D)
	$(MUSL) $(MUSL_CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/static/libcommon.a: $(COMMON:%=$(OBJ)/static/common/%.o)
	@rm -f $@
	ar rcs $@ $^

$(OBJ)/static/musl.o: common/musl.c common/musl.h
	@mkdir -p $(@D)
	$(MUSL) $(MUSL_CFLAGS) -c -o $@ $<

$(BIN)/static-paths.o: common/paths.c common/paths.h
	@mkdir -p $(@D)
	$(MUSL) $(MUSL_CFLAGS) -DROOT='"$(ROOT)"' -DPREFIX='"$(PREFIX)"' -c -o $@ $<

define static_program
$(BIN)/$(1).o: $$($(1):%=$$(OBJ)/static/%) $$(BIN)/static-paths.o $$(OBJ)/static/libcommon.a
	@mkdir -p $$(@D)
	$$(LD) -r -o $$@ $$^

$(BIN)/$(1): $(BIN)/$(1).o $$(OBJ)/static/musl.o
	$$(MUSL) $$(MUSL_LDFLAGS) -o $$@ $$(MUSL_LIB)/rcrt1.o $$(MUSL_LIB)/crti.o $$^ $$(MUSL_LIB)/crtn.o
endef
$(foreach p,$(STATIC),$(eval $(call static_program,$(p))))
endif
