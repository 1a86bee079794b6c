/*
 * settings_grammar - what may stand in the lines of each setting that has a grammar of its own. Room: common.
 */
#include "settings_parse.h"

#include <string.h>

#include "checklines.h"
#include "commandline.h"
#include "domain.h"
#include "limits.h"
#include "log.h"
#include "mailbox.h"
#include "milterline.h"
#include "netaddr.h"
#include "route.h"

static struct bytes after(struct bytes b, size_t n)
{
	return bytes_slice(b, n, b.len);
}

static bool has_blank_or(struct bytes b, char other)
{
	for (size_t i = 0; i < b.len; i++)
		if (b.at[i] == ' ' || b.at[i] == '\t' || b.at[i] == other)
			return true;
	return false;
}

/* "example.org" or ".example.org" */
static bool is_domain_pattern(struct bytes b)
{
	return domain_valid(b.len > 0 && b.at[0] == '.' ? after(b, 1) : b, true);
}

static bool is_literal(struct bytes b)
{
	struct netaddr ignored;
	return netaddr_parse_literal(b, &ignored);
}

static void check_domains(struct parse *p, uint32_t n, struct bytes line)
{
	struct netaddr ignored;
	if (netaddr_parse(line, &ignored))
		parse_fault(p, n, "\"%s\" is an address and no domain; write [192.0.2.1] or [IPv6:2001:db8::1] for mail to user@[address]", log_text(line));
	else if (!is_domain_pattern(line) && !is_literal(line))
		parse_fault(p, n, "\"%s\" is no domain; write one like example.org, or .example.org for every name below it", log_text(line));
}

/* Addresses are compared as mail has them, so a setting's must be spelled alike: quoted only where it must be. */
static void check_spelling(struct parse *p, uint32_t n, const struct mailaddr *addr)
{
	struct str text = STR_INIT(ADDRESS_MAX);
	struct mailaddr canonical;
	if (mailaddr_from_raw(addr->text, &text, &canonical) == ADDR_OK && !bytes_equal(canonical.local, addr->local))
		parse_fault(p, n, "the quotes are needless; write %s before the @", log_text(canonical.local));
	str_free(&text);
}

static void check_virtualdomains(struct parse *p, uint32_t n, struct bytes line)
{
	struct bytes prefix = line, address = bytes_cut(&prefix, ':'), domain = address;
	struct mailaddr addr;
	bool whole = bytes_find(address, '@') < address.len;
	if (!prefix.at)
		parse_fault(p, n, "\"%s\" has no colon; write domain:prefix or user@domain:prefix", log_text(line));
	else if (whole ? mailaddr_parse(address, &addr) != ADDR_OK || addr.kind != ADDR_MAILBOX : !is_domain_pattern(domain))
		parse_fault(p, n, "\"%s\" is neither a domain nor an address; write domain:prefix or user@domain:prefix", log_text(address));
	else if (has_blank_or(prefix, '@') || prefix.len > LOCALPART_OWN_MAX)
		parse_fault(p, n, "\"%s\" cannot stand before a local part; write a user's name, or nothing to exempt the domain", log_text(prefix));
	else if (whole)
		check_spelling(p, n, &addr);
}

static bool is_id(struct bytes b)
{
	uint64_t id;
	return bytes_to_u64(b, UINT32_MAX - 1, &id) && id > 0;
}

static bool is_home(struct bytes b)
{
	if (b.len < 2 || b.at[0] != '/' || b.len >= MAILBOX_HOME_MAX)
		return false;
	for (struct bytes rest = b; rest.len > 0;)
		if (bytes_equal(bytes_cut(&rest, '/'), LIT("..")))
			return false;
	return true;
}

/* "=address:user:uid:gid:home:dash:ext:" and "+prefix:...", qmail's assign; its closing "." is let be. */
static void check_users(struct parse *p, uint32_t n, struct bytes line)
{
	struct bytes field[8], rest = after(line, 1);
	struct mailaddr addr;
	size_t count = 0;
	if (bytes_equal(line, LIT(".")))
		return;
	while (count < 8 && rest.at)
		field[count++] = bytes_cut(&rest, ':');
	bool whole = line.at[0] == '=' && count > 0 && bytes_find(field[0], '@') < field[0].len;
	if ((line.at[0] != '=' && line.at[0] != '+') || count != 8 || rest.at || field[7].len > 0)
		parse_fault(p, n, "\"%s\" is not a mailbox; write =address:user:uid:gid:home::: or +prefix:user:uid:gid:home:::", log_text(line));
	else if (line.at[0] == '=' && field[0].len == 0)
		parse_fault(p, n, "there is no address after \"=\"; write =user@domain:... or =localpart:...");
	else if (whole && mailaddr_parse(field[0], &addr) != ADDR_OK)
		parse_fault(p, n, "\"%s\" is no address; write =user@domain:... or =localpart:...", log_text(field[0]));
	else if (field[1].len == 0 || field[1].len >= sizeof ((struct mailbox *)NULL)->user || has_blank_or(field[1], '/'))
		parse_fault(p, n, "\"%s\" is no user name; write one of 1 to 63 characters", log_text(field[1]));
	else if (!is_id(field[2]) || !is_id(field[3]))
		parse_fault(p, n, "uid and gid must be numbers above 0 (mail is never delivered as root); write those of the mailbox's account");
	else if (!is_home(field[4]))
		parse_fault(p, n, "\"%s\" is no home directory; write an absolute path without \"..\"", log_text(field[4]));
	else if (field[6].len > LOCALPART_OWN_MAX)
		parse_fault(p, n, "the extension is longer than %d octets; shorten it", LOCALPART_OWN_MAX);
	else if (whole)
		check_spelling(p, n, &addr);
}

static void check_clients(struct parse *p, uint32_t n, struct bytes line)
{
	struct netblock block;
	if (!netblock_parse(line, &block))
		parse_fault(p, n, "\"%s\" is no network; write one like 192.0.2.0/24 or 2001:db8::/32, without bits behind the mask", log_text(line));
}

static bool is_relay(struct bytes b)
{
	struct netaddr ignored;
	if (b.len > 2 && b.at[0] == '[' && b.at[b.len - 1] == ']' && netaddr_parse(bytes_slice(b, 1, b.len - 1), &ignored))
		return true;
	return is_literal(b) || domain_valid(b, false);
}

static void check_smtproutes(struct parse *p, uint32_t n, struct bytes line)
{
	struct bytes rest = line, domain = bytes_cut(&rest, ':'), relay, port = { NULL, 0 };
	uint64_t number;
	if (!rest.at) {
		parse_fault(p, n, "\"%s\" has no colon; write domain:relay or domain:relay:port", log_text(line));
		return;
	}
	if (domain.len > 0 && !is_domain_pattern(domain) && !is_literal(domain))
		parse_fault(p, n, "\"%s\" is no domain; write one like example.org, .example.org or nothing for all", log_text(domain));
	size_t end = rest.len > 0 && rest.at[0] == '[' ? bytes_find(rest, ']') : 0;
	if (end > 0 && end < rest.len) {
		relay = bytes_slice(rest, 0, end + 1);
		port = after(rest, end + 1);
		if (port.len > 0 && port.at[0] == ':')
			port = after(port, 1);
		else if (port.len > 0)
			relay = rest;
	} else {
		port = rest;
		relay = bytes_cut(&port, ':');
	}
	if (relay.len > 0 && !is_relay(relay))
		parse_fault(p, n, "\"%s\" is no relay; write a host name, an address, [IPv6 address], or nothing for MX", log_text(relay));
	if (port.len > 0 && (!bytes_to_u64(port, 65535, &number) || number == 0))
		parse_fault(p, n, "\"%s\" is no port; write a number from 1 to 65535", log_text(port));
}

static void check_aliasnames(struct parse *p, uint32_t n, struct bytes line)
{
	if (has_blank_or(line, '@') || line.len > LOCALPART_OWN_MAX)
		parse_fault(p, n, "\"%s\" is no local part; write a name like postmaster, without \"@\"", log_text(line));
}

bool smtpd_role_parse(struct bytes word, enum smtpd_role *role_r)
{
	static const char *const names[] = { [ROLE_RELAY] = "relay", [ROLE_SUBMISSION] = "submission", [ROLE_SUBMISSIONS] = "submissions" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (bytes_equal(word, bytes_of(names[i])) || (i == ROLE_RELAY && word.len == 0)) {
			*role_r = (enum smtpd_role)i;
			return true;
		}
	return false;
}

bool smtpd_listen_parse(struct bytes line, struct bytes *address_r, enum smtpd_role *role_r)
{
	struct bytes role = line;
	*address_r = bytes_cut(&role, ' ');
	return smtpd_role_parse(bytes_trim(role), role_r);
}

static void check_smtpdlisten(struct parse *p, uint32_t n, struct bytes line)
{
	struct netaddr addr;
	struct bytes address;
	enum smtpd_role role;
	if (!smtpd_listen_parse(line, &address, &role))
		parse_fault(p, n, "\"%s\" has no such role; write relay, submission or submissions behind the address, or nothing for relay", log_text(line));
	else if (!netaddr_parse_listen(address, &addr))
		parse_fault(p, n, "\"%s\" is no listening address; write port, address:port or [IPv6 address]:port", log_text(line));
}

/* "/path/chain.pem" or "/path/chain.pem /path/key.pem" */
static void check_tlscertificates(struct parse *p, uint32_t n, struct bytes line)
{
	struct bytes key = line, chain = bytes_cut(&key, ' ');
	key = bytes_trim(key);
	if (chain.at[0] != '/' || (key.len > 0 && key.at[0] != '/') || has_blank_or(key, '\t') || has_blank_or(chain, '\t'))
		parse_fault(p, n, "\"%s\" names no certificate; write the path of a PEM file, and after a blank the path of its key where that is in another file",
			log_text(line));
}

static void check_ownaddresses(struct parse *p, uint32_t n, struct bytes line)
{
	struct netaddr addr;
	if (!netaddr_parse(line, &addr))
		parse_fault(p, n, "\"%s\" is no IP address; write one like 192.0.2.1 or 2001:db8::1", log_text(line));
}

static void check_dnsforward(struct parse *p, uint32_t n, struct bytes line)
{
	struct bytes port = line, ip = bytes_cut(&port, '@');
	struct netaddr addr;
	uint64_t number;
	if (!netaddr_parse(ip, &addr) || (port.at && (!bytes_to_u64(port, 65535, &number) || number == 0)))
		parse_fault(p, n, "\"%s\" is no name server; write an address, or address@port", log_text(line));
}

static void check_source(struct parse *p, uint32_t n, struct bytes line, int family, const char *example)
{
	struct netaddr addr;
	if (line.len > 0 && (!netaddr_parse(line, &addr) || addr.family != family))
		parse_fault(p, n, "\"%s\" is no address of that kind; write one like %s, or nothing", log_text(line), example);
}

static void check_outgoingip(struct parse *p, uint32_t n, struct bytes line)
{
	check_source(p, n, line, AF_INET, "192.0.2.1");
}

static void check_outgoingip6(struct parse *p, uint32_t n, struct bytes line)
{
	check_source(p, n, line, AF_INET6, "2001:db8::1");
}

static void check_extensionchar(struct parse *p, uint32_t n, struct bytes line)
{
	if (line.len > 1 || has_blank_or(line, '@') || (line.len == 1 && (unsigned char)line.at[0] > 127))
		parse_fault(p, n, "\"%s\" is not one character; write one like - or +, or nothing for no extensions", log_text(line));
}

/* A local part alone, qmail's form, is completed with `me` when all settings are read. */
static void check_doublebounceto(struct parse *p, uint32_t n, struct bytes line)
{
	struct str whole = STR_INIT(ADDRESS_MAX);
	struct mailaddr addr;
	str_add(&whole, line);
	if (bytes_find(line, '@') == line.len)
		str_add_c(&whole, "@me");
	if (line.len > 0 && (whole.failed || mailaddr_parse(str_bytes(&whole), &addr) != ADDR_OK || addr.kind != ADDR_MAILBOX))
		parse_fault(p, n, "\"%s\" is no address; write user@domain, user for one at this host (me), or nothing", log_text(line));
	else if (line.len > 0)
		check_spelling(p, n, &addr);
	str_free(&whole);
}

static void check_aliasuser(struct parse *p, uint32_t n, struct bytes line)
{
	if (has_blank_or(line, '/') || line.len >= sizeof ((struct mailbox *)NULL)->user)
		parse_fault(p, n, "\"%s\" is no account name; write one of at most 63 characters, or nothing for none", log_text(line));
}

static void check_bouncefrom(struct parse *p, uint32_t n, struct bytes line)
{
	if (line.len == 0 || line.len > LOCALPART_OWN_MAX || has_blank_or(line, '@'))
		parse_fault(p, n, "\"%s\" is no local part; write a name like MAILER-DAEMON, without \"@\"", log_text(line));
}

static void check_file(struct parse *p, uint32_t n, struct bytes line)
{
	if (line.len > 0 && line.at[0] != '/')
		parse_fault(p, n, "\"%s\" is no absolute path; let it begin with \"/\", or write nothing", log_text(line));
}

/* RFC 5321 4.5.3.1.5: a reply line has at most 512 octets. */
static void check_reply_text(struct parse *p, uint32_t n, struct bytes line, const char *what, size_t most)
{
	bool fits = line.len <= most;
	for (size_t i = 0; i < line.len; i++)
		fits &= (unsigned char)line.at[i] <= 126;
	if (!fits)
		parse_fault(p, n, "%s must be ASCII of at most %zu characters; shorten it or write it in plain letters", what, most);
}

static void check_smtpgreeting(struct parse *p, uint32_t n, struct bytes line)
{
	check_reply_text(p, n, line, "the greeting", 400);
}

static void check_authmechanisms(struct parse *p, uint32_t n, struct bytes line)
{
	static const char *const known[] = { "PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS" };
	bool found = false;
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		found = found || bytes_equal_nocase(line, bytes_of(known[i]));
	if (!found)
		parse_fault(p, n, "\"%s\" is no mechanism; write PLAIN, LOGIN, SCRAM-SHA-256 or SCRAM-SHA-256-PLUS", log_text(line));
}

static void check_senderlogins(struct parse *p, uint32_t n, struct bytes line)
{
	struct bytes logins = line, address = bytes_cut(&logins, ':');
	struct mailaddr addr;
	bool domain = address.len > 1 && address.at[0] == '@';
	if (!logins.at || bytes_trim(logins).len == 0)
		parse_fault(p, n, "\"%s\" names no login; write address:login, address:login login, or address:*", log_text(line));
	else if (domain ? !domain_valid(after(address, 1), true) : mailaddr_parse(address, &addr) != ADDR_OK || addr.kind != ADDR_MAILBOX)
		parse_fault(p, n, "\"%s\" is neither an address nor a domain; write user@example.org or @example.org", log_text(address));
	else if (!domain)
		check_spelling(p, n, &addr);
}

static void check_milters(struct parse *p, uint32_t n, struct bytes line)
{
	struct milter_line ignored;
	if (!milter_line_parse(line, &ignored))
		parse_fault(p, n, "\"%s\" is no milter; write unix:/path, inet:address:port or inet:localhost:port, and behind a blank name=, default=, connect=, timeout=, content=",
			log_text(line));
}

static void check_filters(struct parse *p, uint32_t n, struct bytes line)
{
	struct commandline ignored;
	if (!commandline_parse(line, &ignored))
		parse_fault(p, n, "\"%s\" is no program; write its full path and its arguments, blanks between: at most %u words and %u octets", log_text(line), COMMANDLINE_WORDS,
			COMMANDLINE_MAX);
}

static void check_authbackend(struct parse *p, uint32_t n, struct bytes line)
{
	struct bytes rest = line, word = bytes_cut(&rest, ' ');
	bool path = bytes_trim(rest).len > 1 && bytes_trim(rest).at[0] == '/';
	if (bytes_equal(word, LIT("own")) ? bytes_trim(rest).len > 0 : !path || (!bytes_equal(word, LIT("checkpassword")) && !bytes_equal(word, LIT("dovecot"))))
		parse_fault(p, n, "\"%s\" is no back-end; write own, checkpassword /PROGRAM ..., or dovecot /SOCKET", log_text(line));
}

static void check_dnslists(struct parse *p, uint32_t n, struct bytes line)
{
	struct dnslist list;
	if (!dnslist_parse(line, &list))
		parse_fault(p, n, "\"%s\" is no list; write its zone, =127.0.0.2-11 if only such answers count, its weight (1, or -1 for a list of good ones), and what is looked up: "
			"client, helo, reverse, sender", log_text(line));
}

/* A word of checkexempt is the name of a setting that is a check. */
static bool is_check(struct bytes word)
{
	const struct setting_row *row = setting_find(word);
	return row != NULL && row->type == SETTING_TYPE_WORD && bytes_starts_nocase(word, LIT("check")) && bytes_starts_nocase(bytes_of(row->help), LIT("off|log|"));
}

static void check_checkexempt(struct parse *p, uint32_t n, struct bytes line)
{
	struct exemption e;
	if (!exemption_parse(line, &e)) {
		parse_fault(p, n, "\"%s\" exempts nobody; write 192.0.2.0/24, example.org or .example.org, and after a blank the checks that this is for", log_text(line));
		return;
	}
	for (struct bytes rest = e.checks; rest.len > 0;) {
		struct bytes word = bytes_trim(bytes_cut(&rest, ' '));
		if (word.len > 0 && !is_check(word))
			parse_fault(p, n, "\"%s\" is no check; write names like checkhelo, or none for all", log_text(word));
	}
}

static void check_dnslistsreply(struct parse *p, uint32_t n, struct bytes line)
{
	check_reply_text(p, n, line, "the text of a reply", 200);
}

static void check_limits(struct parse *p, uint32_t n, struct bytes line)
{
	struct limit limit;
	const char *why;
	if (!limit_parse(line, &limit, &why))
		parse_fault(p, n, "\"%s\" is no limit; %s", log_text(line), why);
}

static void check_clientlist(struct parse *p, uint32_t n, struct bytes line)
{
	if (!clientlist_line_valid(line))
		parse_fault(p, n, "\"%s\" is neither a network nor a domain; write one like 192.0.2.0/24, example.org, or .example.org for every name below it", log_text(line));
}

static const struct grammar { const char *name; void (*check)(struct parse *p, uint32_t number, struct bytes line); } grammars[] = {
	{ "locals", check_domains },
	{ "rcpthosts", check_domains },
	{ "virtualdomains", check_virtualdomains },
	{ "users", check_users },
	{ "clients", check_clients },
	{ "smtproutes", check_smtproutes },
	{ "aliasuser", check_aliasuser },
	{ "aliasnames", check_aliasnames },
	{ "extensionchar", check_extensionchar },
	{ "smtpgreeting", check_smtpgreeting },
	{ "smtpdlisten", check_smtpdlisten },
	{ "authmechanisms", check_authmechanisms },
	{ "authplaintext", check_clients },
	{ "proxyfrom", check_clients },
	{ "etrnfrom", check_clients },
	{ "dsnfrom", check_clients },
	{ "xclientfrom", check_clients },
	{ "xforwardfrom", check_clients },
	{ "senderlogins", check_senderlogins },
	{ "authbackend", check_authbackend },
	{ "milters", check_milters },
	{ "filters", check_filters },
	{ "limits", check_limits },
	{ "guardexempt", check_clientlist },
	{ "greylistexempt", check_clientlist },
	{ "bouncefrom", check_bouncefrom },
	{ "doublebounceto", check_doublebounceto },
	{ "outgoingip", check_outgoingip },
	{ "outgoingip6", check_outgoingip6 },
	{ "ownaddresses", check_ownaddresses },
	{ "dnsforward", check_dnsforward },
	{ "dnstrustanchor", check_file },
	{ "logfiles", check_file },
	{ "tlscertificates", check_tlscertificates },
	{ "tlsclientca", check_file },
	{ "dnslists", check_dnslists },
	{ "dnslistsreply", check_dnslistsreply },
	{ "checkexempt", check_checkexempt },
};

void parse_check_line(struct parse *p, uint32_t number, struct bytes line)
{
	for (size_t i = 0; i < sizeof grammars / sizeof grammars[0]; i++)
		if (strcmp(grammars[i].name, p->row->name) == 0) {
			grammars[i].check(p, number, line);
			return;
		}
}
