#include "cri/call.h"

#include "base/str.h"

struct call_release {
    struct call_release *next;
    void (*release)(void *);
    void *what;
};

void *
call_alloc(struct call *call, size_t size)
{
    return arena_alloc(&call->arena, size);
}

void
call_about(struct call *call, const char *object)
{
    call->object = object ? object : "";
}

void
call_defer(struct call *call, void (*release)(void *), void *what)
{
    struct call_release *r = call_alloc(call, sizeof *r);
    *r = (struct call_release){call->releases, release, what};
    call->releases = r;
}

void
call_give_up(const struct call *call)
{
    if (call->cancel)
        cancel_now((struct cancel *)(uintptr_t)call->cancel);
}

void
call_end(struct call *call)
{
    for (const struct call_release *r = call->releases; r; r = r->next)
        r->release(r->what);
    call->releases = NULL;
    call->object = "";
    arena_free(&call->arena);
}
