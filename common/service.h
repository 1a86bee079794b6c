/*
 * service - a daemon that answers its siblings on a socket in path_run: who may ask (SO_PEERCRED, not the file's mode), a bounded table of
 * clients that talk in records (channel.h), what is done when it is full or descriptors have run out, and one loop for all of it.
 *
 *   service_enter    from the start as root to the account that serves; or, where something else is to be done in between, what it is made of:
 *                    settings_or_die, askers_add for each account, priv_run_directory, service_bind, priv_become_alone
 *   service_start    it listens from now on, as whoever it is now: clients see that (sibling_connect)
 *   while (!s.stop) service_turn(&s);
 *   service_end
 *
 * One service a process (io_signal_pipe). A table that is full, and an accept that finds no descriptor, close the client that has been silent
 * longest among those that wait for nothing; is there none, then a new one is turned away, and accepting pauses.
 */
#ifndef COMMON_SERVICE_H
#define COMMON_SERVICE_H

#include <poll.h>
#include <sys/types.h>
#include <sys/un.h>

#include "channel.h"
#include "clock.h"
#include "passing.h"
#include "settings.h"

#define SERVICE_BACKLOG 512

/* ---- who may ask: root, and the accounts that were added */

#define ASKERS_MAX 4u

struct askers { uid_t uid[ASKERS_MAX]; size_t count; };   /* all zero: root only */

/* An account that does not exist is logged and admits nobody. Asks the name service where it must: before descriptors are given up. */
void askers_add(struct askers *askers, const char *account);
/* Is the other end of this connection one of them? One who is not is logged. */
bool askers_admit(const struct askers *askers, int fd);

/* ---- the socket */

struct service_socket { int fd; struct sockaddr_un address; };

/* Bind, not listen; non-blocking. `name` as in sibling.h, `program` for what is said. Where another one serves it, that is waited for so long and
 * then ends this program (EXIT_YOUR_FAULT), as whatever else goes wrong does (EXIT_SYSTEM). The umask is 077 afterwards. */
struct service_socket service_bind(const char *program, const char *name, uint64_t patience_ms);
void service_unbind(struct service_socket *socket);      /* the name goes, too, where this process may take it away */

/* ---- clients */

/* At a fixed address as long as the service lives. */
struct service_client {
	int fd;                        /* -1: free */
	bool gone;                     /* set it to have it closed: at the end of the turn, and before the next wait */
	deadline_t last;               /* when its last record came, or itself */
	deadline_t due;                /* the owner's: kind->due is called once it has passed; 0: never */
	void *own;                     /* kind->own_size octets for the owner; zero when the client comes */
	struct record_reader in;
	struct record_writer out;      /* NAME_encode into out.buffer, then service_send */
	int passed[PASSING_MAX];       /* descriptors that came last (kind->passes), -1: none. Who takes one puts -1 in its place */
	size_t place;                  /* the service's: in its poll set */
};

/* What a daemon is. `owner` is what service_start was given. Functions that say NULL may be left out. */
struct service_kind {
	size_t slots;                  /* most clients at a time */
	size_t own_size;
	size_t answers_max;            /* octets that wait for one client; what would be more cannot be encoded */
	size_t secret_room;            /* not 0: clients tell secrets. So much room is had at once, that no buffer grows and leaves one behind, and is
	                                * wiped when it has been read */
	size_t passes;                 /* not 0: descriptors that come with a record, just so many. A connection takes RECORD_MAX octets in all then */
	size_t own_fds;                /* most descriptors that prepare adds */
	/* One record of a client's. False: it may not say that (now); it is logged and closed. */
	bool (*take)(void *owner, struct service_client *c, const struct record *record, deadline_t now);
	/* Is a further record wanted now? What is not waits, in the end in the client. NULL: always. Asked again in every turn. */
	bool (*wants)(const struct service_client *c);
	/* Does it wait for nothing, so that it may be closed for another? NULL: always. */
	bool (*idle)(const struct service_client *c);
	/* c->due has passed; it is 0 now. NULL: the client is closed. */
	void (*due)(void *owner, struct service_client *c, deadline_t now);
	/* It goes: free what c->own holds, forget the pointer. Its descriptor is still open. NULL: nothing. */
	void (*closing)(void *owner, struct service_client *c);
	/* Before the wait: begin what waits, put own descriptors into fds (own_fds at most), make *next earlier. Returns how many. NULL: none. */
	size_t (*prepare)(void *owner, struct pollfd *fds, deadline_t now, deadline_t *next);
	/* After the wait, before the clients: the same descriptors. NULL: nothing. */
	void (*run)(void *owner, const struct pollfd *fds, size_t count, deadline_t now);
	void (*reload)(void *owner);   /* SIGHUP */
};

struct service {
	struct askers askers;
	struct service_socket socket;
	bool stop;                     /* SIGTERM or SIGINT came */
	/* the service's own */
	const struct service_kind *kind;
	void *owner;
	struct service_client *client;
	void *own;
	struct pollfd *poll;
	int signals;
	deadline_t accept_after;       /* descriptors had run out; 0: they had not */
};

/* How a daemon comes to its account. The directory of the sockets is the resolver's, so each other one binds its socket as root. */
struct service_origin {
	const char *program, *socket, *account, *asker;   /* socket: as `name` in sibling.h; asker: the account that may ask, besides root */
	unsigned used_by;              /* which settings: settings.h */
	unsigned files;                /* descriptors it wants */
	uint64_t patience_ms;          /* service_bind's */
};
/* Descriptors 0 to 2, settings, who may ask, the socket bound, the limits, the account for good; no core. Ends the program when one of them cannot be. */
void service_enter(struct service *s, struct settings *settings, const struct service_origin *origin);

/* Listen on s->socket (service_bind's), ready for the first turn. s->askers stay as they are. Ends the program when it cannot. */
void service_start(struct service *s, const struct service_kind *kind, void *owner);
/* Wait for something and look after it. */
void service_turn(struct service *s);
/* Close every client and the socket. */
void service_end(struct service *s);

/* Send what was encoded; false, or a reader that is gone: the client is gone. service_send(c, NAME_encode(&record, &c->out.buffer)) */
void service_send(struct service_client *c, bool encoded);
/* The next client from place *i on, or NULL: for (size_t i = 0; (c = service_next(s, &i)) != NULL;) */
struct service_client *service_next(const struct service *s, size_t *i);

#endif
