/*
 * paths - where this instance lives. Compiled in (make ROOT=/somewhere), so that a set-uid program takes no path
 * from its caller and several instances stand side by side. All absolute, no trailing slash.
 */
#ifndef COMMON_PATHS_H
#define COMMON_PATHS_H

extern const char path_etc[];      /* ROOT/etc/tappal       control files, root */
extern const char path_spool[];    /* ROOT/var/spool/tappal */
extern const char path_run[];      /* ROOT/run/tappal       sockets of resolver, auth, guard, filterd, callout, tlsd and smtpd */
extern const char path_libexec[];  /* ROOT PREFIX/libexec/tappal */
extern const char path_bin[];      /* ROOT PREFIX/bin */
extern const char path_syslog[];   /* SYSLOG: /dev/log, the socket of the system's log reader, whatever ROOT is */

/* Names under path_spool (the working directory of the queue's programs), with owner, group and mode as etc/spool-tree sets them.
 * A fifo belongs by uid to the far end, and to queued by group: a uid is what a set-uid program replaces, so neither remote nor
 * enqueue inherits a fifo from the one who starts it. */
#define SPOOL_INTAKE   "intake"          /* tappal-intake:tappal-queue 2770   files of enqueue, their ack fifos */
#define SPOOL_LARGE    "large"           /* tappal-queue:tappal-log 0750      large/ID */
#define SPOOL_LOG      "log"             /* tappal-queue:tappal-log 0750      segments */
#define SPOOL_INDEX    "index"           /* tappal-queue:tappal 2750 (lock.mdb 0660)  LMDB */
#define SPOOL_QUARANTINE "quarantine"    /* tappal-queue:tappal-queue 0700    what `tappal queue check --repair` has set aside */
#define SPOOL_GUARD    "guard"           /* tappal-guard:tappal-guard 0700    LMDB of guard's rows */
#define SPOOL_LOCK     "lock"            /* tappal-queue:tappal-queue 0600    flock: one queued */
#define SPOOL_DRAFT    "draft"           /* tappal-smtpd:tappal-smtpd 0700    messages that are judged (milters, filters): files without names; `said`, times of warnings */
#define FIFO_INTAKE    "fifo/intake"     /* tappal-intake:tappal-queue 0260   enqueue -> queued, which keeps a write end of its own: so it never ends */
#define FIFO_CONTROL   "fifo/control"    /* tappal-queue:tappal 0620          tappal -> queued */
#define FIFO_JOBS_LOCAL    "fifo/jobs-local"      /* tappal-queue:tappal-queue 0600   queued -> spawn local (root) */
#define FIFO_JOBS_REMOTE   "fifo/jobs-remote"     /* tappal-spawn:tappal-queue 0420   queued -> spawn remote */
#define FIFO_REPORT_LOCAL  "fifo/report-local"    /* tappal-queue:tappal-queue 0600   spawn local -> queued */
#define FIFO_REPORT_REMOTE "fifo/report-remote"   /* tappal-spawn:tappal-queue 0240   spawn remote -> queued */
#define FIFO_BOUNCE    "fifo/bounce"     /* tappal-bounce:tappal-queue 0420   queued -> bounce */
#define FIFO_RETRY     "fifo/retry"      /* tappal-smtpd:tappal-queue 0260    smtpd -> queued, which keeps a write end of its own */
#define SPOOL_REPLY    "reply"           /* root:tappal 1770                  reply fifos of operators; tappal-queue is in group tappal */
#define SOCKET_RESOLVER "resolver"       /* under path_run; made by resolver; peers checked by SO_PEERCRED */
#define SOCKET_AUTH     "auth"           /* the same of auth; smtpd checks that it is auth's, too */

#define SOCKET_SMTPD    "smtpd"          /* under path_run, tappal-smtpd 0600; made by the pool as root, which smtpd-start checks; peers checked by SO_PEERCRED */
#define SOCKET_GUARD    "guard"          /* the same of guard */
#define SOCKET_FILTER   "filter"         /* the same of filterd */
#define SOCKET_CALLOUT  "callout"        /* the same of callout */
#define SOCKET_TLSD    "tlsd"            /* under path_run; made by tlsd as root, which smtpd checks; peers checked by SO_PEERCRED */

/* The accounts (etc/accounts). Each has a primary group of its own name, but tappal-spawn and tappal-bounce have tappal-log. */
#define ACCOUNT_SMTPD  "tappal-smtpd"
#define ACCOUNT_KEY    "tappal-key"       /* holds private keys and passwords */
#define ACCOUNT_TLS    "tappal-tls"       /* speaks TLS with clients, without them */
#define ACCOUNT_GUARD  "tappal-guard"     /* counts what clients do */
#define ACCOUNT_FILTER "tappal-filter"    /* runs filter programs, and is what they run as */
#define ACCOUNT_INTAKE "tappal-intake"
#define ACCOUNT_QUEUE  "tappal-queue"
#define ACCOUNT_SPAWN  "tappal-spawn"
#define ACCOUNT_BOUNCE "tappal-bounce"
#define ACCOUNT_REMOTE "tappal-remote"
#define ACCOUNT_DNS    "tappal-dns"
#define ACCOUNT_ALIAS  "tappal-alias"
#define ACCOUNT_LOGGER "tappal-logger"    /* svlogd: writes /var/log/tappal */
#define GROUP_LOG      "tappal-log"      /* may read the message log: primary group of tappal-spawn and tappal-bounce, nobody else's */
#define GROUP_OPERATOR "tappal"          /* may look into and steer the queue, and read /var/log/tappal */

#endif
