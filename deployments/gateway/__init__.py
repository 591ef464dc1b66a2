"""The data plane: one OpenAI-compatible address in front of every deployment, and the way into workspaces.

An ASGI application of its own, `uvicorn deployments.gateway.asgi:application`. It keeps nothing that must
survive: who may call, what is deployed and which replicas are ready it reads from the database, so any number
of gateways may run side by side.

    asgi         the process: Django for the database, the application, its settings
    application  routes and the life of the process
    forward      one call from first byte to last: choose, try, retry, relay, stop when the caller hangs up
    calls        what a request asks for: body, model, request id
    relay        the answer of a replica on its way to the caller
    directory    deployments and their ready replicas, at most a second old
    balancing    which replica gets the next call
    keys         who calls, remembered for a few seconds
    counts       calls and tokens per minute, for insight
    workspaces   notebook servers: HTTP and WebSockets below /workspaces, passed on to their pods
    rooms        workspaces and the pods that answer for them, at most a second old
    passing      which headers pass between a browser and a workspace
    errors       every refusal in the shape of the OpenAI protocol
"""
