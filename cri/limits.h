/* What a client may send and what crispd does at once, with the reason of each limit. */
#pragma once

enum {
    MESSAGE_BYTES_MAX = 16 << 20,  /* either way: what the kubelet's client takes */
    REQUEST_MEMORY_MAX = 64 << 20, /* a request unpacked; honest ones take 3 to 4 times their size on the wire */
    WIRE_DEPTH_MAX = 16,           /* messages inside messages; CRI has 7 */
    LIST_MAX = 4096,               /* mounts, variables, labels, ports, … of one pod or container: beyond what etcd lets a pod have */
    COMMAND_BYTES_MAX = 2 << 20,   /* arguments and environment together: execve(2) takes no more with the usual stack */
    WORKER_STACK_BYTES = 1 << 20,  /* of a blocking call; only what is touched costs memory */
    WORKER_IDLE_SECONDS = 10,
    POLLERS = 2,
    STREAMS_MAX = 256,             /* streams open at once, each with a thread of its own */
    EVENT_STREAMS_MAX = 64,        /* of those, for events */
    EVENTS_WAITING_MAX = 1024,     /* for one reader; a node's pods that all change at once are some hundred */
    STREAM_FIRST_BYTES = 16 << 10, /* of a streamed list: the first message, so that it comes at once … */
    STREAM_CHUNK_BYTES = 1 << 20,  /* … and those that follow, unless one item alone is larger */
};
