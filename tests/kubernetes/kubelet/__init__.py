"""The node side: registers nodes, and lives the lives of the pods that are bound to them.

Works by the API alone, so with the stand-in and with a real control plane. Two ways to run pods:

    Fleet(kubeconfig, nodes, Scripted())                      # a script decides what pods do; no processes
    Fleet(kubeconfig, nodes, Processes(folder, images=…))     # containers run as processes of this machine
"""
