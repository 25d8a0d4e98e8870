//! What do dashboards see of the worker?
