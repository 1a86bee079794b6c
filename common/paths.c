/*
 * paths - the compiled-in places of this instance. Room: common. ROOT, PREFIX and SYSLOG come from the Makefile; this is the only
 * object that knows them.
 */
#include "paths.h"

const char path_etc[] = ROOT "/etc/tappal";
const char path_spool[] = ROOT "/var/spool/tappal";
const char path_run[] = ROOT "/run/tappal";
const char path_libexec[] = ROOT PREFIX "/libexec/tappal";
const char path_bin[] = ROOT PREFIX "/bin";
const char path_syslog[] = SYSLOG;
