/*
 * peer - who is the client? Asked once per connection, before its first octet is read.
 *
 *   a socket with an IP peer   getpeername, or what accept said. TCPREMOTEHOST and TCPREMOTEINFO, if the starter looked them up, add the name.
 *   anything else (a pipe)     TCPREMOTEIP (tcpserver and TLS wrappers behind it) or REMOTE_ADDR (s6, xinetd's tools);
 *                              none of them: a program of this host, shown as unknown[local]
 *
 *   a front in `proxyfrom`     what its PROXY header says, instead (proxy.h)
 *
 * The pool asks the socket alone, unless smtpd-start passed the connection with what it knew. Nothing here blocks: no DNS, no ident.
 */
#ifndef SMTPD_PEER_H
#define SMTPD_PEER_H

#include "common/domain.h"
#include "common/netaddr.h"

#define PEER_INFO_MAX 64

struct peer {
	struct netaddr addr;                        /* family 0: not an IP client */
	bool is_socket;                             /* its descriptor is a socket, of whatever family */
	char name[DOMAIN_MAX + 1];                  /* "unknown" unless the starter gave one that can be a host name */
	char info[PEER_INFO_MAX + 1];               /* what an ident server said, reduced to harmless octets; usually empty */
	char ip[NETADDR_TEXT];                      /* "192.0.2.1"; "local" for family 0 */
	char text[DOMAIN_MAX + NETADDR_TEXT + 3];   /* "name[ip]", for logs and for the envelope */
};

void peer_of_address(const struct sockaddr_storage *sa, socklen_t len, struct peer *p_r);   /* as accept(2) gave it */
/* Whom a trusted host speaks for, on a connection that is a socket or not. Family 0: nobody knows his address. `name` may be empty; what can be none is left out. */
void peer_announced(const struct netaddr *addr, bool is_socket, const char *name, struct peer *p_r);

/* By another name, which can be a host name, from now on. */
void peer_set_name(struct peer *p, const char *name);

/* What the starter knows of the client; each may be empty. */
struct peer_facts { struct bytes ip, name, info; };
struct peer_facts peer_environment(void);
void peer_of_session(int fd, const struct peer_facts *facts, struct peer *p_r);

#endif
