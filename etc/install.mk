# make install, make uninstall. PREFIX: where programs go. ROOT: compiled in, a whole instance below it. DESTDIR: only for packaging; then no
# account is made and nothing is given away, and the package runs libexec/tappal/accounts and libexec/tappal/spool-tree when it is installed.

INSTALL_LIBEXEC = $(DESTDIR)$(ROOT)$(PREFIX)/libexec/tappal
INSTALL_BIN     = $(DESTDIR)$(ROOT)$(PREFIX)/bin
INSTALL_SHARE   = $(DESTDIR)$(ROOT)$(PREFIX)/share/tappal
INSTALL_MAN     = $(DESTDIR)$(ROOT)$(PREFIX)/share/man

# Who is started by other programs stands in libexec, who is typed by people in bin; links: name=target.
LIBEXEC_PROGRAMS = smtpd/smtpd smtpd/guard smtpd/filterd smtpd/smtpd-start smtpd/auth smtpd/tlsd queue/enqueue queue/queued queue/spawn queue/bounce remote/remote remote/callout remote/resolver local/local local/inject local/sendmail
BIN_PROGRAMS     = queue/tappal
LIBEXEC_LINKS    = mailq=sendmail newaliases=sendmail
BIN_LINKS        = tappal-inject=../libexec/tappal/inject tappal-sendmail=../libexec/tappal/sendmail
SCRIPTS          = etc/accounts etc/spool-tree
MAN_PAGES        = $(wildcard man/*.[1-8]) $(OBJ)/man/tappal-control.5

# The files of etc/ name /usr/libexec/tappal and so on; an instance elsewhere gets its own places.
PLACES = sed -e 's|/usr/libexec/tappal|$(ROOT)$(PREFIX)/libexec/tappal|g' -e 's|/var/log/tappal|$(ROOT)/var/log/tappal|g'

# local is run as its recipient, who cannot attach to a program that he cannot read.
# A program that is running is replaced by name, never written over, and has its owner before it has its name.
define put
	@install -d -m 0755 $(dir $(2))
	install -m $(if $(4),0700,$(3)) $(1) $(2).new && $(if $(4),$(if $(DESTDIR),chmod 0755 $(2).new,chown $(4) $(2).new && chmod $(3) $(2).new) &&) mv -f $(2).new $(2)

endef
LIBEXEC_PLAIN = $(filter-out queue/enqueue remote/remote local/local,$(LIBEXEC_PROGRAMS))

install: all
ifeq ($(DESTDIR),)
	sh etc/accounts
endif
	$(call put,$(BIN)/queue/enqueue,$(INSTALL_LIBEXEC)/enqueue,6755,tappal-intake:tappal-intake)
	$(call put,$(BIN)/remote/remote,$(INSTALL_LIBEXEC)/remote,6750,tappal-remote:tappal-remote)
	$(call put,$(BIN)/local/local,$(INSTALL_LIBEXEC)/local,0711)
	$(foreach p,$(LIBEXEC_PLAIN),$(call put,$(BIN)/$(p),$(INSTALL_LIBEXEC)/$(notdir $(p)),0755))
	$(foreach p,$(BIN_PROGRAMS),$(call put,$(BIN)/$(p),$(INSTALL_BIN)/$(notdir $(p)),0755))
	$(foreach s,$(SCRIPTS),$(call put,$(s),$(INSTALL_LIBEXEC)/$(notdir $(s)),0755))
	$(foreach m,$(MAN_PAGES),$(call put,$(m),$(INSTALL_MAN)/man$(subst .,,$(suffix $(m)))/$(notdir $(m)),0644))
	@for l in $(LIBEXEC_LINKS); do ln -sfn "$${l#*=}" "$(INSTALL_LIBEXEC)/$${l%%=*}"; done
	@for l in $(BIN_LINKS); do ln -sfn "$${l#*=}" "$(INSTALL_BIN)/$${l%%=*}"; done
	@install -d -m 0755 $(DESTDIR)$(ROOT)/etc/tappal
	@cd etc && find service systemd xinetd tcpserver logrotate -type f | while read -r f; do \
		install -d -m 0755 "$(INSTALL_SHARE)/$$(dirname "$$f")"; \
		$(PLACES) "$$f" >"$(INSTALL_SHARE)/$$f"; \
		case $$f in */run|*/t) chmod 0755 "$(INSTALL_SHARE)/$$f";; *) chmod 0644 "$(INSTALL_SHARE)/$$f";; esac; \
	done
ifeq ($(DESTDIR),)
	sh etc/spool-tree '$(ROOT)' '$(PREFIX)'
endif

# Settings, mail and accounts stay: they are not ours to throw away.
uninstall:
	rm -f $(foreach p,$(LIBEXEC_PROGRAMS) $(SCRIPTS),$(INSTALL_LIBEXEC)/$(notdir $(p)))
	rm -f $(foreach l,$(LIBEXEC_LINKS),$(INSTALL_LIBEXEC)/$(firstword $(subst =, ,$(l))))
	rm -f $(foreach p,$(BIN_PROGRAMS),$(INSTALL_BIN)/$(notdir $(p))) $(foreach l,$(BIN_LINKS),$(INSTALL_BIN)/$(firstword $(subst =, ,$(l))))
	rm -f $(foreach m,$(MAN_PAGES),$(INSTALL_MAN)/man$(subst .,,$(suffix $(m)))/$(notdir $(m)))
	rm -rf $(INSTALL_SHARE)
	-rmdir $(INSTALL_LIBEXEC) 2>/dev/null

# Every built program against etc/boundaries.txt: its libraries, and what it must not be able to call.
boundaries: all
	sh etc/boundaries etc/boundaries.txt $(BIN)

# etc/quickstart in a bare Debian 12; minutes, and Debian's archive.
.PHONY: check-quickstart
check-quickstart:
	sh tests/install/quickstart
