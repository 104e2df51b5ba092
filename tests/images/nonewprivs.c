/* Prints its effective user id: setuid root in the image, it shows whether no_new_privs held. */
#include <stdio.h>
#include <unistd.h>

int
main(void)
{
    printf("Effective uid: %u\n", (unsigned)geteuid());
    return 0;
}
