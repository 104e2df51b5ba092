/* Making a user namespace: a child is cloned into it, its maps are written from outside, and it stays for as long as the caller needs somebody in
 * there. Nothing is allocated. For crisp-monitor and its children, and for crispd's look at what the kernel can. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct userns {
    int fd; /* the namespace: for setns(2) and for mount_setattr(2)'s MOUNT_ATTR_IDMAP; the caller's */
    int pidfd;
    pid_t pid;
    int channel;
};

/* A user namespace with these maps ("0 65536 65536\n": inside, outside, length), and the namespaces that `flags` (CLONE_NEW*) names, which it owns.
 * `life` is what the child, as root inside, does after userns_begin; NULL where it is only to be ended. 0, or an errno and nothing is left. */
int userns_make(struct userns *u, uint64_t flags, const char *uid_map, const char *gid_map, void (*life)(void));
/* The child has waited until now: it is let go and does its `life`, or is ended and reaped. */
void userns_begin(struct userns *u); /* `pid` and `pidfd` are the caller's */
void userns_end(struct userns *u);   /* `fd` stays */

/* Of a process that has just entered one: who was root outside is nobody inside, until it says that it is root inside. 0 or an errno. */
int userns_become_root(void);

/* Files below the detached tree are seen with the ids that the namespace maps theirs to. 0 or an errno: EOPNOTSUPP where the file system (or one
 * below it, where `recursive`) cannot, or has been given other ids already. */
int userns_map_tree(int tree, int userns, int recursive);
