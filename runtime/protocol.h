/* What crispd and a monitor say to each other, on top of base/message.h.
 *
 * crispd asks, the monitor answers each request once with ANSWER and the request's serial; it tells EXITED and WARNING by itself (serial 0). A new
 * crispd talks to monitors that an older one started: numbers are never reused, unknown requests are answered ENOSYS, unknown tags are skipped,
 * absent ones read as zero.
 *
 *   request    fields and fds                                                              fields of the answer, where errnum is 0
 *   POD        SHARED_PID; fds POD_SPEC STATE_DIR CONTAINERS_DIR                            –            the first one, once
 *   LIST       –                                                                           CONTAINER… (a struct each)
 *   HOLD       fd HOLD (a pipe's read end)                                                 PID          of a process that lives until the pipe ends
 *   CREATE     ID LOG LOG_DIR LOG_RATE LOG_BUFFER OOM_FILE FLAGS; fds SPEC CGROUP PID_NS GATE HOLD (kept until its init has ended)   PID
 *   START      ID                                                                          STARTED_NS
 *   SIGNAL     ID SIGNAL                                                                   –
 *   KILL       ID                                                                          –
 *   DELETE     ID                                                                          –            when it is gone
 *   REOPEN     ID                                                                          –            when the new file is open
 *   EXEC       ID; fds SPEC CGROUP STDIN STDOUT STDERR CONSOLE                              STATUS       when it has ended
 *   EXEC_KILL  TARGET (the EXEC's serial)                                                  –            the EXEC is answered as well
 *   END        –                                                                           –            then the monitor ends
 *   ATTACH     ID; fds STDIN STDOUT STDERR (pipes) CONSOLE                                  –            when the container's output has ended, or
 * crispd has closed its ends
 *
 * A request that cannot be read (malformed, of another version) is answered EBADMSG where it has a serial.
 *
 * An answer with errnum ≠ 0 has FAILED_OP where an operation of the spec failed, and WORDS (the step) or REFUSAL where the errno alone says too
 * little. */
#pragma once

#include "base/id.h"
#include "base/message.h"

enum protocol_type {
    PROTOCOL_ANSWER = 1,
    PROTOCOL_EXITED = 2,  /* ID STATUS OOM FINISHED_NS: written to the disk before */
    PROTOCOL_WARNING = 3, /* ID WORDS ERRNUM: for crispd's log */
    PROTOCOL_POD = 16,
    PROTOCOL_LIST,
    PROTOCOL_CREATE,
    PROTOCOL_START,
    PROTOCOL_SIGNAL,
    PROTOCOL_KILL,
    PROTOCOL_DELETE,
    PROTOCOL_REOPEN,
    PROTOCOL_EXEC,
    PROTOCOL_EXEC_KILL,
    PROTOCOL_END,
    PROTOCOL_ATTACH,
    PROTOCOL_HOLD,
    PROTOCOL_TYPE_COUNT,
};

enum protocol_tag {
    TAG_ERRNUM = 1,
    TAG_FAILED_OP, /* + 1; 0: none */
    TAG_WORDS,
    TAG_ID,
    TAG_LOG,
    TAG_OOM_FILE,
    TAG_FLAGS, /* enum protocol_flag */
    TAG_PID,
    TAG_STARTED_NS,
    TAG_SIGNAL,
    TAG_STATUS,
    TAG_OOM,
    TAG_FINISHED_NS,
    TAG_TARGET,
    TAG_CONTAINER, /* struct protocol_container */
    TAG_SHARED_PID,
    TAG_REFUSAL,    /* instead of WORDS: a whole sentence, which needs no strerror behind it */
    TAG_FD_ROLE,    /* repeated, one for each fd in order: enum protocol_fd */
    TAG_LOG_RATE,   /* bytes a second; 0: no limit */
    TAG_LOG_BUFFER, /* bytes; 0: the container waits for its log */
    TAG_LOG_DIR,    /* how many bytes of LOG are the pod's log directory, below which the rest stays; 0: an older crispd, which does not say */
    /* new ones here */
};

enum protocol_flag {
    FLAG_TTY = 1,
    FLAG_STDIN_OPEN = 2,
    FLAG_STDIN_ONCE = 4,
    FLAG_HOST_PID = 8,
    FLAG_NEW_PID_NS = 16,
    FLAG_ENTERS = 32, /* the spec has SPEC_ENTER: its process is not cloned into a pid namespace, but brings its child there */
};

enum protocol_fd {
    FD_POD_SPEC = 1,
    FD_STATE_DIR,
    FD_CONTAINERS_DIR,
    FD_SPEC,
    FD_CGROUP,
    FD_PID_NS,
    FD_STDIN,
    FD_STDOUT,
    FD_STDERR,
    FD_CONSOLE, /* a socket on which the terminal's master is sent (runtime/fd_pass.h), where there is one */
    FD_HOLD,    /* an end of the pipe that a holder lives by */
    FD_GATE,    /* a socket, for SPEC_GATE */
};

enum protocol_state { STATE_CREATED = 1, STATE_RUNNING, STATE_EXITED };

/* One container in the answer to LIST. Grows at its end only. */
struct protocol_container {
    char id[72];
    uint32_t state;
    int32_t pid;
    int64_t started_ns;
    int64_t finished_ns;
    int32_t status;
    uint32_t oom_killed;
};

/* POD_ID.sock in STATE_DIR, reached by its fd since sun_path is short. */
struct sockaddr_un;
void protocol_address(struct sockaddr_un *address, int state_dir, const char *pod_id);

/* An fd with its role; -1 is left out. Borrowed until sent. */
void protocol_put_fd(struct message *m, enum protocol_fd role, int fd);
/* The fd of that role, now the caller's; -1 when there is none. */
int protocol_take_fd(struct message *m, enum protocol_fd role);
