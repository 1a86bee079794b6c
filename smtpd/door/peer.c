/* peer - smtpd's room: who the client is. See peer.h. */
#include "peer.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void peer_write_text(struct peer *p)
{
	if (p->addr.family != 0)
		netaddr_format(&p->addr, p->ip);
	else if (p->ip[0] == '\0')
		memcpy(p->ip, "local", sizeof "local");
	if (p->name[0] == '\0')
		memcpy(p->name, "unknown", sizeof "unknown");
	struct str text = STR_INIT(sizeof p->text - 1);
	str_add_c(&text, p->name);
	str_add_char(&text, '[');
	str_add_c(&text, p->ip);
	str_add_char(&text, ']');
	bytes_to_cstring(str_bytes(&text), p->text, sizeof p->text);
	str_free(&text);
}

void peer_set_name(struct peer *p, const char *name)
{
	bytes_to_cstring(bytes_of(name), p->name, sizeof p->name);
	peer_write_text(p);
}

static void peer_from_fd(int fd, struct peer *p)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	*p = (struct peer){ 0 };
	int type = 0;
	socklen_t type_len = sizeof type;
	p->is_socket = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0;
	if (!p->is_socket || getpeername(fd, (struct sockaddr *)&sa, &len) < 0 || !netaddr_from_sockaddr((struct sockaddr *)&sa, len, &p->addr))
		p->addr = (struct netaddr){ 0 };
}

void peer_of_address(const struct sockaddr_storage *sa, socklen_t len, struct peer *p_r)
{
	*p_r = (struct peer){ .is_socket = true };
	if (!netaddr_from_sockaddr((const struct sockaddr *)sa, len, &p_r->addr))
		p_r->addr = (struct netaddr){ 0 };
	peer_write_text(p_r);
}

void peer_announced(const struct netaddr *addr, bool is_socket, const char *name, struct peer *p_r)
{
	struct peer p = { .is_socket = is_socket, .addr = *addr };
	if (domain_valid(bytes_of(name), true))
		bytes_to_cstring(bytes_of(name), p.name, sizeof p.name);
	if (addr->family == 0)
		memcpy(p.ip, "unknown", sizeof "unknown");
	peer_write_text(&p);
	*p_r = p;
}

static void peer_take_name(struct peer *p, const struct peer_facts *facts)
{
	struct bytes info = facts->info;
	if (domain_valid(facts->name, false))
		bytes_to_cstring(facts->name, p->name, sizeof p->name);
	size_t n = 0;
	for (size_t i = 0; i < info.len && n < PEER_INFO_MAX; i++)
		p->info[n++] = isalnum((unsigned char)info.at[i]) || (info.at[i] != '\0' && strchr("._-", info.at[i])) ? info.at[i] : '?';
	p->info[n] = '\0';
}

struct peer_facts peer_environment(void)
{
	const char *ip = getenv("TCPREMOTEIP");
	return (struct peer_facts){ bytes_of(ip != NULL ? ip : getenv("REMOTE_ADDR")), bytes_of(getenv("TCPREMOTEHOST")), bytes_of(getenv("TCPREMOTEINFO")) };
}

void peer_of_session(int fd, const struct peer_facts *facts, struct peer *p_r)
{
	peer_from_fd(fd, p_r);
	if (p_r->addr.family == 0 && !netaddr_parse(facts->ip, &p_r->addr))
		p_r->addr = (struct netaddr){ 0 };
	peer_take_name(p_r, facts);
	peer_write_text(p_r);
}
