/*
 * operation - the names of what an operator may do. Room: queue, tappal.
 */
#include "operation.h"

const char *operation_name(unsigned op)
{
	switch (op) {
	case OP_RETRY: return "retry";
	case OP_HOLD: return "hold";
	case OP_RELEASE: return "release";
	case OP_DELETE: return "delete";
	case OP_BOUNCE: return "bounce";
	case OP_FLUSH_DESTINATION: return "flush";
	case OP_EXPIRE: return "expire";
	default: return "?";
	}
}
