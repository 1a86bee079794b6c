/*
 * exits - exit codes of `enqueue`, which keep qmail-queue's contract, and of every other program.
 * enqueue: 0 queued; 11-40 permanent; every other temporary (qmail's ranges).
 */
#ifndef COMMON_EXITS_H
#define COMMON_EXITS_H

enum enqueue_exit {
	ENQ_OK = 0,
	ENQ_BAD_ADDRESS = 11,   /* an address is too long or malformed */
	ENQ_REFUSED = 31,       /* permanently refused */
	ENQ_OUT_OF_MEMORY = 51,
	ENQ_TIMEOUT = 52,
	ENQ_WRITE_ERROR = 53,   /* disk full, I/O error */
	ENQ_READ_ERROR = 54,    /* message or envelope could not be read */
	ENQ_BAD_CONFIG = 55,
	ENQ_NO_SPACE = 59,      /* below the reserve of free space: 4.3.1 */
	ENQ_NO_SPOOL = 61,      /* cannot reach the spool */
	ENQ_NO_INTAKE = 62,     /* cannot create the intake file */
	ENQ_QUEUE_ERROR = 66,   /* queued could not store it */
	ENQ_BUG = 81,
	ENQ_BAD_ENVELOPE = 91,  /* envelope format error */
};

enum program_exit {
	EXIT_OK = 0,
	EXIT_YOUR_FAULT = 100,  /* usage, settings: the same call fails again */
	EXIT_SYSTEM = 111,      /* the system: try again later */
};

#endif
